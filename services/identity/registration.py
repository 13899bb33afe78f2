"""Registration: a signed RegisterIdentity goes to the channel, its sealed evidence to storage; members vote.

Nothing here can read the evidence: it is sealed to the reviewing administrators.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Command, RegisterIdentity, Role, SignedCommand
from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus, SealedKey
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command as commands
from cbmdhi.protocol import signature
from cbmdhi.protocol.channel import Channel
from services.identity import names
from services.identity.domain import registration, review
from services.identity.domain.refusal import Refused, Why
from services.identity.sessions import now_ms
from services.runtime.errors import MeshError

MOST_REVIEWS = 500
_EVIDENCE_AT_ONCE = 8
_EVIDENCE_BYTES = 12 * 1024 * 1024
_EVIDENCE_SECONDS = 12.0


class Ledger(Protocol):
    """What is needed of the ledger (services.identity.ledger)."""

    async def identity(self, address: str) -> IdentityDocument | None: ...

    async def registration(self, address: str) -> SignedCommand: ...

    async def identities(
        self, *, role: Role = ..., status: IdentityStatus = ...
    ) -> list[IdentityDocument]: ...

    async def members(self) -> ledger_pb2.ListMembersResponse: ...

    async def submit(
        self, command: SignedCommand, sealed_keys: Iterable[SealedKey] = ...
    ) -> ledger_pb2.Receipt: ...


class Blobs(Protocol):
    """What is needed of storage (services.identity.storage)."""

    async def put(self, blob: bytes, cid: str) -> None: ...

    async def get(self, cid: str) -> bytes: ...


class Registrations:
    """Takes registrations and votes. Raises Refused and MeshError."""

    def __init__(self, ledger: Ledger, storage: Blobs, *, msp_id: str, channel: Channel) -> None:
        self._ledger = ledger
        self._storage = storage
        self._msp_id = msp_id
        self._channel = channel

    async def reviewers(self, *, of_broken_glass: bool) -> identity_pb2.ListReviewersResponse:
        """To whom a patient seals: the active administrators of all members, and the members' vaults. To whom
        a clinician seals the reason of a broken glass: the privacy officers too."""
        administrators, known = await asyncio.gather(
            self._active(Role.ROLE_ADMINISTRATOR), self._ledger.members()
        )
        privacy_officers = await self._active(Role.ROLE_PRIVACY_OFFICER) if of_broken_glass else []
        registrations = await asyncio.gather(
            *(self._ledger.registration(one.address) for one in (*administrators, *privacy_officers))
        )
        return identity_pb2.ListReviewersResponse(
            administrators=administrators,
            members=known.members,
            channel=self._channel.name,
            registrations=registrations,
            privacy_officers=privacy_officers,
        )

    async def _active(self, role: Role) -> list[IdentityDocument]:
        return await self._ledger.identities(role=role, status=IdentityStatus.IDENTITY_STATUS_ACTIVE)

    async def register(self, request: identity_pb2.RegisterRequest) -> ledger_pb2.Receipt:
        """Check, keep the evidence, submit. What cannot be accepted leaves nothing behind."""
        header, body = _parse(request.command)
        known = await self._ledger.members()
        keys = [registration.SealedKey(key.msp, key.key, key.sealed) for key in request.sealed_keys]
        place = registration.Place(
            self._channel, {member.msp: member.ca_certificates_pem for member in known.members}
        )
        wanted = _registration(request.command, header, body)
        registration.check(wanted, request.sealed_evidence, keys, place)
        _check_signature(request.command, body)
        if request.sealed_evidence and registration.is_certified(wanted) and await self._is_new(header, body):
            await self._storage.put(request.sealed_evidence, body.evidence_cid)
        return await self._ledger.submit(request.command, request.sealed_keys)

    async def pending(self) -> list[identity_pb2.PendingReview]:
        """What waits for this member's vote, oldest first, with the sealed evidence."""
        documents, known = await asyncio.gather(
            self._ledger.identities(status=IdentityStatus.IDENTITY_STATUS_PENDING), self._ledger.members()
        )
        by_address = {document.address: document for document in documents}
        rules = [
            review.Rule(names.role(rule.role), rule.quorum, rule.home_only)
            for rule in known.policy.review_rules
        ]
        waiting = review.waits_for(
            self._msp_id, (_waiting(document) for document in by_address.values()), rules, MOST_REVIEWS
        )
        return await self._with_evidence([by_address[one.address] for one in waiting])

    async def review(
        self, signed: SignedCommand, caller: str
    ) -> tuple[ledger_pb2.Receipt, IdentityDocument | None]:
        """Submit the caller's own vote; the receipt, and the identity afterwards if it can be had."""
        try:
            name, body = commands.body_of(signed)
        except commands.MalformedCommand as error:
            raise Refused(Why.INVALID, str(error), "command") from error
        if name != "review_registration":
            raise Refused(Why.INVALID, "this call takes a ReviewRegistration", "body")
        if signed.signer != caller:
            raise Refused(Why.FORBIDDEN, "a vote is sent by its signer; log in with that key", "signer")
        receipt = await self._ledger.submit(signed)
        try:
            return receipt, await self._ledger.identity(getattr(body, "address", ""))
        except MeshError:
            # The vote stands; its receipt is worth more than the document beside it.
            return receipt, None

    async def _is_new(self, header: Command, body: RegisterIdentity) -> bool:
        """False for what the channel will answer without the evidence: past, or registered before."""
        if header.expires_at_ms <= now_ms():
            return False
        known = await self._ledger.identity(body.address)
        return known is None or (
            known.status == IdentityStatus.IDENTITY_STATUS_REJECTED
            and known.registration_id != header.command_id
        )

    async def _with_evidence(self, documents: Sequence[IdentityDocument]) -> list[identity_pb2.PendingReview]:
        """As many as fit into one message and a bounded time; evidence that cannot be had is left empty."""
        reviews: list[identity_pb2.PendingReview] = []
        size = 0
        ends_at = asyncio.get_running_loop().time() + _EVIDENCE_SECONDS
        for start in range(0, len(documents), _EVIDENCE_AT_ONCE):
            some = documents[start : start + _EVIDENCE_AT_ONCE]
            blobs = await asyncio.gather(*(self._evidence(document) for document in some))
            for document, blob in zip(some, blobs, strict=True):
                one = identity_pb2.PendingReview(identity=document, sealed_evidence=blob)
                size += one.ByteSize()
                if size > _EVIDENCE_BYTES:
                    return reviews
                reviews.append(one)
            if asyncio.get_running_loop().time() > ends_at:
                break
        return reviews

    async def _evidence(self, document: IdentityDocument) -> bytes:
        if document.role != Role.ROLE_PATIENT or not document.evidence_cid:
            return b""
        try:
            return await self._storage.get(document.evidence_cid)
        except MeshError:
            # One registration whose evidence is not to be had must not hide the others.
            return b""


def _parse(signed: SignedCommand) -> tuple[Command, RegisterIdentity]:
    try:
        header, body = commands.parse(signed)
    except commands.MalformedCommand as error:
        raise Refused(Why.INVALID, str(error), "command") from error
    if body.WhichOneof("body") != "register_identity":
        raise Refused(Why.INVALID, "this call takes a RegisterIdentity", "body")
    if signed.HasField("delegation"):
        raise Refused(Why.INVALID, "a registration is signed in person, not by a device", "delegation")
    return header, body.register_identity


def _check_signature(signed: SignedCommand, body: RegisterIdentity) -> None:
    try:
        commands.verify(signed, body.signing_public_key)
    except signature.BadSignature as error:
        raise MeshError(
            code_pb2.CODE_BAD_SIGNATURE,
            "the signature does not fit the command and its key; sign again",
            "command",
        ) from error


def _registration(
    signed: SignedCommand, header: Command, body: RegisterIdentity
) -> registration.Registration:
    return registration.Registration(
        signer=signed.signer,
        channel=header.channel,
        genesis_sha256=header.genesis_sha256,
        address=body.address,
        role=names.role(body.role),
        home_msp=body.home_msp,
        signing_public_key=body.signing_public_key,
        enrolment_certificate=body.enrolment_certificate,
        custodians=[(custodian.msp, custodian.sealed_key_sha256) for custodian in body.custodians],
        evidence_cid=body.evidence_cid,
    )


def _waiting(document: IdentityDocument) -> review.Waiting:
    return review.Waiting(
        address=document.address,
        role=names.role(document.role),
        home_msp=document.home_msp,
        voted=frozenset(vote.msp for vote in document.reviews),
        registered_at_ms=document.registered_at_ms,
    )
