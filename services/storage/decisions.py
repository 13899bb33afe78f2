"""Decisions: proven from the block itself on the own member's peer, never taken on anybody's word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1.ledger_pb2 import GetProofResponse
from cbmdhi.protocol import proof
from services.runtime.errors import MeshError
from services.runtime.remembered import Remembered
from services.storage.domain import decision
from services.storage.domain.decision import ReadGrant
from services.storage.locks import KeyedLocks
from services.storage.together import each

_VERIFIED = 64
_AT_ONCE = 8


class ProofSource(Protocol):
    """The own ledger (`ledger.Ledger`), or a fake."""

    async def proof(self, tx_id: str, wait_seconds: float) -> GetProofResponse:
        """Block and neighbours' headers. Raises MeshError NOT_FOUND."""
        ...


class Decisions:
    """Turns transactions and commands into grants.

    wait_seconds      for the own peer to commit the transaction
    max_age_seconds   after which a grant releases nothing more
    max_skew_seconds  by which a decision may be dated ahead
    """

    def __init__(
        self,
        source: ProofSource,
        trust: proof.Trust,
        now_ms: Callable[[], int],
        *,
        wait_seconds: float,
        max_age_seconds: float,
        max_skew_seconds: float,
    ) -> None:
        self._source = source
        self._trust = trust
        self._now_ms = now_ms
        self._wait_seconds = wait_seconds
        self._max_age_ms = int(max_age_seconds * 1000)
        self._max_skew_ms = int(max_skew_seconds * 1000)
        self._verified: Remembered[str, proof.VerifiedTransaction] = Remembered(_VERIFIED)
        self._locks = KeyedLocks()

    async def grants(self, decided: Sequence[tuple[str, str]]) -> list[ReadGrant | MeshError]:
        """The grants of (tx_id, command_id), in order, still fresh; each transaction is proven once.

        In a place that has none stands why: FORBIDDEN, NOT_FOUND (not committed on the own peer),
        UNAVAILABLE.
        """
        wanted = dict.fromkeys(tx_id for tx_id, _ in decided)
        verified = await each(wanted, self._verify, _AT_ONCE)
        return [self._grant(verified[tx_id], command_id) for tx_id, command_id in decided]

    def _grant(
        self, verified: proof.VerifiedTransaction | MeshError, command_id: str
    ) -> ReadGrant | MeshError:
        if isinstance(verified, MeshError):
            return verified
        try:
            grant = decision.derive_grant(verified, command_id, self._trust.member_roots.keys())
            decision.check_age(
                grant,
                now_ms=self._now_ms(),
                max_age_ms=self._max_age_ms,
                max_skew_ms=self._max_skew_ms,
            )
        except decision.NotGranted as exc:
            return MeshError(code_pb2.CODE_FORBIDDEN, exc.reason)
        return grant

    async def _verify(self, tx_id: str) -> proof.VerifiedTransaction:
        """What is verified of a transaction never changes, and many reads are decided in one."""
        known = self._verified.get(tx_id)
        if known is not None:
            return known
        async with self._locks.hold(tx_id):
            known = self._verified.get(tx_id)
            if known is not None:
                return known
            found = await self._source.proof(tx_id, self._wait_seconds)
            try:
                verified = await asyncio.to_thread(
                    proof.verify_transaction,
                    found.block,
                    found.previous_header,
                    tx_id,
                    self._trust,
                    found.next_header,
                )
            except proof.ProofError as exc:
                raise MeshError(
                    code_pb2.CODE_FORBIDDEN, f"the decision is not proven ({exc.check}): {exc.reason}"
                ) from exc
            self._verified.put(tx_id, verified)
            return verified
