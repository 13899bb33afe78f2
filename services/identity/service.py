"""The gRPC surface: who may call, requests, answers. The rules are in `domain/`.

Everything but GetTokenKeys and GetRevocations is for the own member's gateway, which offers it to clients.
"""

from __future__ import annotations

import math
import time
from typing import Any, TypeVar

from google.protobuf.message import Message

from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from cbmdhi.identity.v1 import identity_pb2 as pb
from cbmdhi.identity.v1 import identity_pb2_grpc
from services.identity import names
from services.identity.domain import csr, review, roles, session
from services.identity.enrolment import Enroller
from services.identity.ledger import LedgerClient
from services.identity.registration import Registrations
from services.identity.sessions import Sessions
from services.runtime.caller_signature import CallerSignature
from services.runtime.callers import caller_of, require_peer
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from services.runtime.revocations import Revocations
from services.runtime.token_bucket import TokenBucket

M = TypeVar("M", bound=Message)

_GATEWAY = frozenset({"gateway"})
_REFUSING_REVOKED = frozenset({"gateway", "storage"})
_VERIFIERS = frozenset({"gateway", "ledger", "storage", "notify"})


def _take_turn(bucket: TokenBucket) -> None:
    now = time.monotonic()
    if wait := bucket.wait_seconds(now):
        reason = "too many enrolments at this moment; come back then"
        raise Refused.resource_exhausted(reason, retry_after_ms=math.ceil(wait * 1000))
    bucket.spend(now)


class AdministratorCheck:
    """Checks by signature and by the channel that an active administrator of this member asks."""

    def __init__(self, caller_signature: CallerSignature, revocations: Revocations, msp_id: str) -> None:
        self._caller_signature = caller_signature
        self._revocations = revocations
        self._msp_id = msp_id

    async def asks(self, request: M, context: Any, *, once: bool = False) -> M:
        """What the administrator means. Raises MeshError as `CallerSignature` does, Refused for others.

        once  the same call does nothing a second time
        """
        asked = await self._caller_signature.of(request, context, once=once)
        review.check_administrator(
            role=names.role(asked.by.role),
            home_msp=asked.by.home_msp,
            active=asked.by.status == IdentityStatus.IDENTITY_STATUS_ACTIVE,
            own_msp=self._msp_id,
        )
        self._revocations.check(asked.by.home_msp, asked.by.address)
        return asked.request


class EnrolmentServicer(identity_pb2_grpc.EnrolmentServiceServicer):
    """Certificates. Patients and invited people have separate buckets, so neither can starve the other."""

    def __init__(
        self,
        enroller: Enroller,
        ledger: LedgerClient,
        administrators: AdministratorCheck,
        *,
        at_once: int,
        per_minute: float,
    ) -> None:
        self._enroller = enroller
        self._ledger = ledger
        self._administrators = administrators
        self._patients = TokenBucket(at_once, per_minute / 60)
        self._invited = TokenBucket(at_once, per_minute / 60)

    async def Invite(self, request: pb.InviteRequest, context: Any) -> pb.InviteResponse:
        request = await self._administrators.asks(request, context, once=True)
        role = names.role(request.role)
        roles.check_invitable(role)
        session.check_address(request.address)
        known = await self._ledger.identity(request.address)
        if known is not None and known.status != IdentityStatus.IDENTITY_STATUS_REJECTED:
            raise Refused.conflict("this address is registered already; invite a new key", "address")
        return pb.InviteResponse(secret=await self._enroller.invite(request.address, role))

    async def Enrol(self, request: pb.EnrolRequest, context: Any) -> pb.EnrolResponse:
        require_peer(context, services=_GATEWAY)
        role = names.role(request.role)
        roles.check_enrollable(role, request.secret)
        wanted = csr.check(request.csr_pem)
        if role == roles.PATIENT:
            _take_turn(self._patients)
            enrolled = await self._enroller.enrol_patient(wanted)
        else:
            _take_turn(self._invited)
            enrolled = await self._enroller.enrol_invited(wanted, role, request.secret)
        return pb.EnrolResponse(
            certificate_pem=enrolled.certificate_pem, ca_certificates_pem=enrolled.chain_pem
        )


class RegistrationServicer(identity_pb2_grpc.RegistrationServiceServicer):
    """Registrations and reviews."""

    def __init__(
        self, registrations: Registrations, ledger: LedgerClient, administrators: AdministratorCheck
    ) -> None:
        self._registrations = registrations
        self._ledger = ledger
        self._administrators = administrators

    async def ListReviewers(self, request: pb.ListReviewersRequest, context: Any) -> pb.ListReviewersResponse:
        require_peer(context, services=_GATEWAY)
        return await self._registrations.reviewers(of_broken_glass=request.of_broken_glass)

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterResponse:
        require_peer(context, services=_GATEWAY)
        receipt = await self._registrations.register(request, caller_of(context).address)
        return pb.RegisterResponse(receipt=receipt)

    async def ListPendingReviews(
        self, request: pb.ListPendingReviewsRequest, context: Any
    ) -> pb.ListPendingReviewsResponse:
        request = await self._administrators.asks(request, context)
        return await self._registrations.pending(request.page_size, request.page_token)

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Any) -> pb.GetEvidenceResponse:
        request = await self._administrators.asks(request, context)
        session.check_address(request.address)
        return pb.GetEvidenceResponse(sealed_evidence=await self._registrations.evidence(request.address))

    async def Review(self, request: pb.ReviewRequest, context: Any) -> pb.ReviewResponse:
        require_peer(context, services=_GATEWAY)
        receipt, identity = await self._registrations.review(request.command, caller_of(context).address)
        return pb.ReviewResponse(receipt=receipt, identity=identity)

    async def GetOwnIdentity(
        self, request: pb.GetOwnIdentityRequest, context: Any
    ) -> pb.GetOwnIdentityResponse:
        require_peer(context, services=_GATEWAY)
        return pb.GetOwnIdentityResponse(identity=await self._found(caller_of(context).address))

    async def GetIdentity(self, request: pb.GetIdentityRequest, context: Any) -> pb.GetIdentityResponse:
        require_peer(context, services=_GATEWAY)
        caller_of(context)
        session.check_address(request.address)
        return pb.GetIdentityResponse(identity=await self._found(request.address))

    async def _found(self, address: str) -> IdentityDocument:
        document = await self._ledger.identity(address)
        if document is None:
            raise MeshError.not_found("no identity is registered under this address", "address")
        return document


class RevocationServicer(identity_pb2_grpc.RevocationServiceServicer):
    """Whom the members' CAs have revoked, as each of them signed it."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations

    async def GetRevocations(
        self, request: pb.GetRevocationsRequest, context: Any
    ) -> pb.GetRevocationsResponse:
        require_peer(context, services=_REFUSING_REVOKED)
        return self._revocations.answer(request)


class SessionServicer(identity_pb2_grpc.SessionServiceServicer):
    """Challenges, logins, and the keys that verify tokens."""

    def __init__(self, sessions: Sessions, *, device: str, channel: str, jwks_json: str) -> None:
        self._sessions = sessions
        self._device = device
        self._channel = channel
        self._jwks_json = jwks_json

    async def Challenge(self, request: pb.ChallengeRequest, context: Any) -> pb.ChallengeResponse:
        require_peer(context, services=_GATEWAY)
        challenge = self._sessions.challenge(request.address)
        return pb.ChallengeResponse(
            challenge=challenge.value,
            expires_at_ms=challenge.expires_at_ms,
            device=self._device,
            channel=self._channel,
        )

    async def Login(self, request: pb.LoginRequest, context: Any) -> pb.LoginResponse:
        require_peer(context, services=_GATEWAY)
        return await self._sessions.login(request)

    async def GetTokenKeys(self, request: pb.GetTokenKeysRequest, context: Any) -> pb.GetTokenKeysResponse:
        require_peer(context, services=_VERIFIERS, any_member=True)
        return pb.GetTokenKeysResponse(jwks_json=self._jwks_json)
