"""The certificates that the members' Fabric CAs have revoked, as far as this service knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import grpc
import structlog

from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.protocol import certificates, revocation
from cbmdhi.protocol.revocation import RevocationList
from services.runtime.client import call
from services.runtime.config import ClientCa
from services.runtime.errors import MeshError, code_name
from services.runtime.readiness import Check

_ASK_SECONDS = 2.0
_AGAIN_MS = 500
_AHEAD_SECONDS = 120

_log = structlog.get_logger()

Ask = Callable[[identity_pb2.GetRevocationsRequest], Awaitable[identity_pb2.GetRevocationsResponse]]
"""Calls GetRevocations of another service, with a deadline. Raises MeshError."""


class Revocations:
    """The newest list of each member. Whoever sent a list, it is checked against the member's roots.

    roots_pem  by MSP id, of the members' CAs for identities
    clock      Unix seconds
    """

    def __init__(self, roots_pem: Mapping[str, str], clock: Callable[[], float] = time.time) -> None:
        self._roots = dict(roots_pem)
        self._clock = clock
        self._lists: dict[str, RevocationList] = {}

    @classmethod
    def of(cls, cas: Iterable[ClientCa]) -> Revocations:
        """Of the members whose CAs the configuration names."""
        return cls({ca.msp_id: ca.ca_file.read_text(encoding="ascii") for ca in cas})

    @property
    def members(self) -> frozenset[str]:
        """MSP ids of the members whose lists count."""
        return frozenset(self._roots)

    async def offer(self, msp_id: str, crl: bytes, revoked: Sequence[bytes]) -> None:
        """Take a list (DER) unless it is older than the known one, or of the future. Raises Untrusted.

        Checked in a thread, so that a long list does not delay other callers.
        """
        if msp_id not in self._roots:
            raise certificates.Untrusted("of no member that this service knows")
        known = self._lists.get(msp_id)
        if known is not None and known.crl == crl:
            return
        checked = await asyncio.to_thread(revocation.verify, crl, revoked, self._roots[msp_id], known)
        if checked.made_ms > (self._clock() + _AHEAD_SECONDS) * 1000:
            # A list from the future would hide all later revocations until its time.
            raise certificates.Untrusted("the revocation list is dated in the future; see to its CA's clock")
        self.keep(msp_id, checked)

    def keep(self, msp_id: str, checked: RevocationList) -> None:
        """Keep a checked list, unless a newer one is known."""
        known = self._lists.get(msp_id)
        if known is None or checked.made_ms >= known.made_ms:
            self._lists[msp_id] = checked

    async def take(self, offered: Iterable[identity_pb2.RevocationList]) -> None:
        """Take the lists in an answer. Raises Untrusted after taking the valid ones."""
        told = {one.msp_id: one for one in offered if one.msp_id in self._roots}
        done = await asyncio.gather(
            *(self.offer(msp_id, one.crl, one.certificates) for msp_id, one in told.items()),
            return_exceptions=True,
        )
        wrong: list[str] = []
        for msp_id, error in zip(told, done, strict=True):
            if isinstance(error, certificates.Untrusted):
                wrong.append(f"{msp_id}: {error}")
            elif error is not None:
                raise error
        if wrong:
            raise certificates.Untrusted("; ".join(sorted(wrong)))

    def request(self, *only: str) -> identity_pb2.GetRevocationsRequest:
        """The request for the lists of all members, or of `only` some."""
        return identity_pb2.GetRevocationsRequest(
            known={msp_id: known.digest for msp_id, known in self._lists.items()}, only=only
        )

    def answer(self, request: identity_pb2.GetRevocationsRequest) -> identity_pb2.GetRevocationsResponse:
        """The lists, without certificates that the caller has. What does not fit must be asked for."""
        answer = identity_pb2.GetRevocationsResponse()
        room = revocation.MAX_BYTES
        for msp_id, known in self._lists.items():
            if request.only and msp_id not in request.only:
                continue
            has = request.known.get(msp_id) == known.digest
            size = len(known.crl) + (0 if has else sum(map(len, known.certificates)))
            if size > room:
                answer.left_out.append(msp_id)
                continue
            room -= size
            answer.lists.add(msp_id=msp_id, crl=known.crl, certificates=() if has else known.certificates)
        return answer

    def is_revoked(self, msp_id: str, address: str) -> bool:
        """Whether a member has revoked one of its own addresses. It cannot revoke those of others."""
        known = self._lists.get(msp_id)
        return known is not None and address in known.addresses

    def problem(self, msp_id: str) -> str | None:
        """None while it is known whom a member has revoked, else a sentence.

        A list is good for as long as the CA said when it signed it (`crl.expiry` of its configuration).
        """
        known = self._lists.get(msp_id)
        if known is None:
            return f"whom the Fabric CA of {msp_id} has revoked is not known yet"
        if self._clock() * 1000 > known.good_until_ms:
            return f"the last revocation list of {msp_id} has ended; its Fabric CA must answer again"
        return None

    def doubts(self, address: str) -> bool:
        """Whether `check` is needed: a list names the address, or a list is not known."""
        return any(self.problem(msp_id) or self.is_revoked(msp_id, address) for msp_id in self._roots)

    def check(self, msp_id: str, address: str) -> None:
        """Raises MeshError INACTIVE_SIGNER (revoked), UNAVAILABLE (not known)."""
        if self.is_revoked(msp_id, address):
            raise MeshError.inactive_signer(
                "this identity's certificate was revoked by its hospital: ask there, and register a new key"
            )
        if problem := self.problem(msp_id):
            raise MeshError.unavailable(problem, retry_after_ms=_AGAIN_MS)


def ask_by(channel: grpc.aio.Channel) -> Ask:
    """GetRevocations over a channel."""
    stub = identity_pb2_grpc.RevocationServiceStub(channel)

    async def ask(request: identity_pb2.GetRevocationsRequest) -> identity_pb2.GetRevocationsResponse:
        return await call(stub.GetRevocations, request, deadline_seconds=_ASK_SECONDS)

    return ask


def known_of(revocations: Revocations, msp_id: str) -> Check:
    """For readiness: whether it is known whom a member has revoked."""

    async def check() -> str | None:
        return revocations.problem(msp_id)

    return check


async def follow(revocations: Revocations, ask: Ask, *, member: str, every_seconds: float) -> None:
    """Ask another service for a member's list at intervals, until cancelled.

    Known lists stay known while it is unavailable: see `Revocations.problem`.
    """
    away = ""
    while True:
        try:
            await _hear(revocations, ask)
            problem = ""
        except MeshError as error:
            problem = code_name(error.code)
        except certificates.Untrusted as error:
            problem = str(error)
        if problem and problem != away:
            _log.warning("revocations.not_heard", member=member, reason=problem)
        elif away and not problem:
            _log.info("revocations.heard", member=member)
        away = problem
        await asyncio.sleep(every_seconds)


async def _hear(revocations: Revocations, ask: Ask) -> None:
    """Ask once. What did not fit into one answer is asked for member by member."""
    wrong: certificates.Untrusted | None = None
    asked: list[tuple[str, ...]] = [()]
    for only in asked:
        answer = await ask(revocations.request(*only))
        try:
            await revocations.take(answer.lists)
        except certificates.Untrusted as error:
            wrong = error
        if not only:
            asked += [(msp_id,) for msp_id in revocations.members & set(answer.left_out)]
    if wrong is not None:
        raise wrong
