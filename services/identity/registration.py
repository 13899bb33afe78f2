"""Registration: a signed RegisterIdentity goes to the channel, its sealed evidence to storage; members vote.

This service cannot read the evidence: it is sealed to the reviewing administrators.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Command, CommandBody, RegisterIdentity, Role, SignedCommand
from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import command as commands
from cbmdhi.protocol import signature, words
from cbmdhi.protocol.channel import Channel
from services.identity import names
from services.identity.domain import registration, review
from services.identity.ledger import LedgerClient
from services.identity.storage import StorageClient
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from services.runtime.revocations import Revocations
from services.runtime.ttl_cache import TtlCache

_PAGE = 100
_LARGEST_PAGE = 500
_REVIEWERS_SECONDS = 2.0


class Registrations:
    """Takes registrations and votes. Raises Refused and MeshError."""

    def __init__(
        self,
        ledger: LedgerClient,
        storage: StorageClient,
        revocations: Revocations,
        *,
        msp_id: str,
        channel: Channel,
    ) -> None:
        self._ledger = ledger
        self._revocations = revocations
        self._storage = storage
        self._msp_id = msp_id
        self._channel = channel
        self._reviewers: TtlCache[bool, identity_pb2.ListReviewersResponse] = TtlCache(2)
        self._reviewers_lock = asyncio.Lock()

    async def reviewers(self, *, of_broken_glass: bool) -> identity_pb2.ListReviewersResponse:
        """To whom evidence is sealed: the active administrators of all members, and the members' vaults.

        A clinician seals the reason of a break-glass to the privacy officers as well. The answer is cached
        for two seconds, since it takes many questions to the ledger.
        """
        if (known := self._reviewers.get(of_broken_glass, _REVIEWERS_SECONDS)) is not None:
            return known
        async with self._reviewers_lock:
            if (known := self._reviewers.get(of_broken_glass, _REVIEWERS_SECONDS)) is None:
                known = await self._find_reviewers(of_broken_glass)
                self._reviewers.put(of_broken_glass, known)
        return known

    async def register(self, request: identity_pb2.RegisterRequest, caller: str) -> ledger_pb2.Receipt:
        """Check, submit, then store the evidence, so that nothing of a refused registration is stored."""
        header, body = _parse_registration(request.command, self._revocations.members)
        if request.command.signer != caller:
            raise Refused.forbidden(
                "a registration comes over the connection of whom it registers: show that certificate",
                "signer",
            )
        known = await self._ledger.members()
        keys = [registration.SealedKey(key.msp, key.key, key.sealed) for key in request.sealed_keys]
        place = registration.ChannelTrust(
            self._channel, {member.msp: member.ca_certificates_pem for member in known.members}
        )
        wanted = _registration(request.command, header, body)
        registration.check(wanted, request.sealed_evidence, keys, place)
        self._revocations.check(wanted.home_msp, wanted.address)
        _check_signature(request.command, body.signing_public_key)
        receipt = await self._ledger.submit(request.command, request.sealed_keys)
        if receipt.code == code_pb2.CODE_OK and request.sealed_evidence:
            await self._keep(request.sealed_evidence, header, body)
        return receipt

    async def pending(self, size: int, token: str) -> identity_pb2.ListPendingReviewsResponse:
        """A page of registrations that wait for this member's vote, oldest first."""
        behind = review.place_named(token)
        size = min(size or _PAGE, _LARGEST_PAGE)
        known = await self._ledger.members()
        rules = [
            review.Rule(names.role(rule.role), rule.quorum, rule.home_only)
            for rule in known.policy.review_rules
        ]
        # One more than the page shows whether there is a next page. However many wait, only these are held in
        # memory.
        oldest: list[review.Waiting] = []
        documents: dict[str, IdentityDocument] = {}
        async for some in self._ledger.identities(status=IdentityStatus.IDENTITY_STATUS_PENDING):
            documents |= {document.address: document for document in some}
            oldest = review.waits_for(
                self._msp_id,
                {one.address: one for one in (*oldest, *map(_waiting, some))}.values(),
                rules,
                behind=behind,
                most=size + 1,
            )
            documents = {one.address: documents[one.address] for one in oldest}
        return identity_pb2.ListPendingReviewsResponse(
            reviews=[identity_pb2.PendingReview(identity=documents[one.address]) for one in oldest[:size]],
            next_page_token=review.token_of(oldest[size - 1]) if len(oldest) > size else "",
        )

    async def evidence(self, address: str) -> bytes:
        """The sealed evidence of a registration. Raises MeshError NOT_FOUND, UNAVAILABLE, INTEGRITY."""
        document = await self._ledger.identity(address)
        if document is None or not document.evidence_cid:
            raise MeshError.not_found("no registration with evidence stands under this address", "address")
        return await self._storage.get(document.evidence_cid)

    async def review(
        self, signed: SignedCommand, caller: str
    ) -> tuple[ledger_pb2.Receipt, IdentityDocument | None]:
        """Submit the caller's vote; gives the receipt, and the identity afterwards if it is available."""
        header, body = _parse(signed, "review_registration", "a ReviewRegistration")
        if signed.signer != caller:
            raise Refused.forbidden("a vote is sent by its signer; log in with that key", "signer")
        registration.check_channel(header.channel, header.genesis_sha256, self._channel)
        _check_words(signed, header, body, self._revocations.members)
        reviewer = await self._ledger.identity(signed.signer)
        if reviewer is None or addresses.of_spki(reviewer.signing_public_key) != signed.signer:
            raise MeshError.unknown_signer("a vote is signed with a registered key: register it", "signer")
        _check_signature(signed, reviewer.signing_public_key)
        self._revocations.check(reviewer.home_msp, signed.signer)
        receipt = await self._ledger.submit(signed)
        try:
            return receipt, await self._ledger.identity(body.review_registration.address)
        except MeshError:
            # The vote is committed, so its receipt is given even without the document.
            return receipt, None

    async def _keep(self, evidence: bytes, header: Command, body: RegisterIdentity) -> None:
        """Store the evidence of a registration that waits for review. A decided one needs none."""
        document = await self._ledger.identity(body.address)
        if (
            document is None
            or document.status != IdentityStatus.IDENTITY_STATUS_PENDING
            or document.registration_id != header.command_id
        ):
            return
        try:
            await self._storage.put(evidence, body.evidence_cid, header.command_id, body.address)
        except MeshError as error:
            raise MeshError.unavailable(
                "registered, but the evidence is not kept yet, and nobody can review without it: "
                "send the same again",
                "sealed_evidence",
                error.retry_after_ms or 1_000,
            ) from error

    async def _find_reviewers(self, of_broken_glass: bool) -> identity_pb2.ListReviewersResponse:
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
        active = self._ledger.identities(role=role, status=IdentityStatus.IDENTITY_STATUS_ACTIVE)
        return [document async for some in active for document in some]


def _parse(signed: SignedCommand, name: str, wanted: str) -> tuple[Command, CommandBody]:
    try:
        header, body = commands.parse(signed)
    except commands.MalformedCommand as error:
        raise Refused.invalid(str(error), "command") from error
    if body.WhichOneof("body") != name:
        raise Refused.invalid(f"this call takes {wanted}", "body")
    return header, body


def _parse_registration(signed: SignedCommand, members: Collection[str]) -> tuple[Command, RegisterIdentity]:
    header, body = _parse(signed, "register_identity", "a RegisterIdentity")
    if signed.HasField("delegation"):
        raise Refused.invalid("a registration is signed in person, not by a device", "delegation")
    _check_words(signed, header, body, members)
    return header, body.register_identity


def _check_words(signed: SignedCommand, header: Command, body: CommandBody, members: Collection[str]) -> None:
    """Check before submitting, since a refused command may still be in a block."""
    try:
        words.check_command(signed, header, body, "command", "body")
        words.check_frame(signed, header)
        words.check(body, "body", members)
    except words.NotAWord as error:
        raise Refused.invalid(str(error), error.path) from error


def _check_signature(signed: SignedCommand, signing_public_key: bytes) -> None:
    """Check before submitting, since unverified bytes would stay in a block for ever."""
    try:
        commands.verify(signed, signing_public_key)
    except (signature.BadSignature, ValueError) as error:
        raise MeshError.bad_signature(
            "the signature does not fit the command and its key; sign again", "command"
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
