"""A member for tests: the identity service over fakes of ledger, storage and Fabric CA."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import (
    Custodian,
    Decision,
    PolicyDocument,
    RegisterIdentity,
    ReviewRegistration,
    Role,
    SignedCommand,
)
from cbmdhi.command.v1.state_pb2 import (
    IdentityDocument,
    IdentityStatus,
    MemberDocument,
    SealedKey,
)
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import call, cid, command, revocation, signature
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.state_keys import sealed_record_key_name
from services.identity.enrolment import Enroller
from services.identity.registration import Registrations
from services.identity.service import (
    AdministratorCheck,
    EnrolmentServicer,
    RegistrationServicer,
    SessionServicer,
)
from services.identity.sessions import Sessions
from services.identity.tokens import TokenSigner
from services.runtime.caller_signature import CallerSignature
from services.runtime.callers import Caller, PeerDirectory, caller_metadata, current_directory
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations
from services.runtime.throttle import Throttle
from tests.support.channel import CHANNEL
from tests.support.fakes.asking_gateway import FakeContext
from tests.support.fakes.fabric_ca import FakeCa, Root, Wallet
from tests.support.revoking import der, revocation_list

M = TypeVar("M", bound=Message)

MERCY, LAKESIDE = "MercyMSP", "LakesideMSP"
ACTIVE = IdentityStatus.IDENTITY_STATUS_ACTIVE
PENDING = IdentityStatus.IDENTITY_STATUS_PENDING
REJECTED = IdentityStatus.IDENTITY_STATUS_REJECTED
SUSPENDED = IdentityStatus.IDENTITY_STATUS_SUSPENDED


class FakeLedger:
    """The channel, as far as identity sees it; each command that arrives is accepted as `verdict`."""

    def __init__(self) -> None:
        self.documents: dict[str, IdentityDocument] = {}
        self.member_documents: list[MemberDocument] = []
        self.policy = PolicyDocument()
        self.submitted: list[tuple[SignedCommand, list[SealedKey]]] = []
        self.verdict = code_pb2.CODE_OK
        self.away_after_submit = False
        self.lists, self.page = 0, 500

    async def identity(self, address: str) -> IdentityDocument | None:
        if self.submitted and self.away_after_submit:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        return self.documents.get(address)

    async def registration(self, address: str) -> SignedCommand:
        return SignedCommand(signer=address)

    async def identities(
        self,
        *,
        role: Role = Role.ROLE_UNSPECIFIED,
        status: IdentityStatus = IdentityStatus.IDENTITY_STATUS_UNSPECIFIED,
    ) -> AsyncIterator[list[IdentityDocument]]:
        self.lists += 1
        found = [
            one for one in self.documents.values() if role in (0, one.role) and status in (0, one.status)
        ]
        for start in range(0, len(found), self.page):
            yield found[start : start + self.page]

    async def members(self) -> ledger_pb2.ListMembersResponse:
        return ledger_pb2.ListMembersResponse(
            members=self.member_documents, policy=self.policy, channel=CHANNEL.name
        )

    async def submit(
        self, command: SignedCommand, sealed_keys: Iterable[SealedKey] = ()
    ) -> ledger_pb2.Receipt:
        self.submitted.append((command, list(sealed_keys)))
        if self.verdict == code_pb2.CODE_OK:
            self._register(command)
        return ledger_pb2.Receipt(code=self.verdict, tx_id="t", signer=command.signer)

    def _register(self, signed: SignedCommand) -> None:
        """As the channel does it: the same command again changes nothing."""
        header, body = command.parse(signed)
        if body.WhichOneof("body") != "register_identity":
            return
        wanted, known = body.register_identity, self.documents.get(signed.signer)
        if known is not None and known.registration_id == header.command_id:
            return
        self.documents[signed.signer] = IdentityDocument(
            address=wanted.address,
            role=wanted.role,
            home_msp=wanted.home_msp,
            status=PENDING,
            registration_id=header.command_id,
            evidence_cid=wanted.evidence_cid,
        )

    def put(
        self, wallet: Wallet, role: Role, status: IdentityStatus = ACTIVE, home: str = MERCY, **more: Any
    ) -> None:
        self.documents[wallet.address] = IdentityDocument(
            address=wallet.address,
            role=role,
            home_msp=home,
            status=status,
            signing_public_key=wallet.spki,
            **more,
        )


class FakeStorage:
    """Blobs by CID."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.away = False

    async def put(self, blob: bytes, cid: str, command_id: str, signer: str) -> None:
        if self.away:
            raise MeshError(code_pb2.CODE_RESOURCE_EXHAUSTED, "too few members hold it", "", 5)
        self.blobs[cid] = blob

    async def get(self, cid: str) -> bytes:
        if cid not in self.blobs:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "not here")
        return self.blobs[cid]


class Clock:
    """Unix milliseconds that stand until they are moved."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


class Member:
    """The identity service of mercy, with lakeside as the other member."""

    def __init__(self, *, at_once: int = 100, used_challenges: int = 100) -> None:
        self.ledger, self.storage, self.ca, self.clock = FakeLedger(), FakeStorage(), FakeCa(), Clock()
        self.lakeside_ca = Root.new("ca of lakeside")
        self.ledger.member_documents = [
            MemberDocument(msp=LAKESIDE, ca_certificates_pem=self.lakeside_ca.pem),
            MemberDocument(msp=MERCY, ca_certificates_pem=self.ca.root.pem),
        ]
        self._tls = {MERCY: Root.new("tls of mercy"), LAKESIDE: Root.new("tls of lakeside")}
        self.token_key = signature.new_private_key()
        pem = self.token_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.signer = TokenSigner(pem)
        self.revocations = Revocations({MERCY: self.ca.root.pem, LAKESIDE: self.lakeside_ca.pem})
        for msp_id, root in ((MERCY, self.ca.root), (LAKESIDE, self.lakeside_ca)):
            self.revoke(msp_id, root)
        asking = CallerSignature(self.ledger, channel=CHANNEL, msp_id=MERCY, clock=self.clock)
        administrators = AdministratorCheck(asking, self.revocations, MERCY)
        registrations = Registrations(
            self.ledger, self.storage, self.revocations, msp_id=MERCY, channel=CHANNEL
        )
        self.enrolment = EnrolmentServicer(
            Enroller(self.ca, self.revocations, MERCY),
            self.ledger,
            administrators,
            at_once=at_once,
            per_minute=60,
        )
        self.registration = RegistrationServicer(registrations, self.ledger, administrators)
        self.device = Wallet()
        sessions = Sessions(
            self.ledger,
            self.signer,
            msp_id=MERCY,
            used_challenges=used_challenges,
            revocations=self.revocations,
            logins=Throttle(at_once, 60),
            token_seconds=300,
            clock=self.clock,
        )
        self.session = SessionServicer(
            sessions, device=self.device.address, channel=CHANNEL.name, jwks_json=self.signer.jwks_json
        )

    def revoke(self, msp_id: str, root: Root, *certificates: x509.Certificate) -> None:
        """The newest list of a member's CA: it revokes these and nobody else."""
        crl = revocation_list(root.certificate.subject, root.key, certificates)
        self.revocations.keep(msp_id, revocation.verify(crl, der(*certificates), root.pem))

    def by(
        self, caller: Wallet | str | None = None, *, msp: str = MERCY, service: str = "gateway"
    ) -> FakeContext:
        """A call by a service of a member, on behalf of `caller` as that gateway says."""
        directory = PeerDirectory(MERCY, {name: [root.certificate] for name, root in self._tls.items()})
        current_directory.set(directory)
        certificate = self._tls[msp].issue(service, signature.new_private_key().public_key())
        address = caller.address if isinstance(caller, Wallet) else caller
        metadata = caller_metadata(Caller(address, "administrator", MERCY)) if address else ()
        return FakeContext(certificate.public_bytes(Encoding.PEM), metadata)

    def signed(self, request: M, by: Wallet, **how: Any) -> M:
        """The request as somebody's own call to this member."""
        now = {"channel": CHANNEL, "msp": MERCY, "now_ms": self.clock()}
        return call.sign(request, command.KeySigner(by.key), **(now | how))

    def administrator(self, status: IdentityStatus = ACTIVE, home: str = MERCY) -> Wallet:
        wallet = Wallet()
        self.ledger.put(wallet, Role.ROLE_ADMINISTRATOR, status, home)
        return wallet

    def registration_of(self, patient: Wallet, **changes: Any) -> identity_pb2.RegisterRequest:
        """A patient's registration as a wallet makes it; `changes` to the command's body."""
        evidence = b"sealed evidence of " + patient.address.encode()
        sealed = SealedKey(
            msp=LAKESIDE, key=sealed_record_key_name(patient.address), sealed=b"sealed record key"
        )
        digest = hashlib.sha256(sealed.sealed).digest()
        certificate = self.ca.root.issue(patient.address, patient.key.public_key(), "patient")
        fields: dict[str, Any] = {
            "address": patient.address,
            "role": Role.ROLE_PATIENT,
            "home_msp": MERCY,
            "signing_public_key": patient.spki,
            "hpke_public_key": bytes(1216),
            "enrolment_certificate": certificate.public_bytes(Encoding.DER),
            "custodians": [Custodian(msp=LAKESIDE, sealed_key_sha256=digest)],
            "evidence_cid": cid.raw(evidence),
        }
        body = RegisterIdentity(**{**fields, **changes})
        signed = command.KeySigner(patient.key).sign_command(command.make(body, channel=CHANNEL))
        return identity_pb2.RegisterRequest(command=signed, sealed_keys=[sealed], sealed_evidence=evidence)


def vote(
    reviewer: Wallet, patient: Wallet, *, reason_code: str = "identity-verified", channel: Channel = CHANNEL
) -> identity_pb2.ReviewRequest:
    body = ReviewRegistration(
        address=patient.address, decision=Decision.DECISION_APPROVE, reason_code=reason_code
    )
    signed = command.KeySigner(reviewer.key).sign_command(command.make(body, channel=channel))
    return identity_pb2.ReviewRequest(command=signed)


async def refused(attempt: Any) -> MeshError:
    """The error that an attempt ends with."""
    with pytest.raises(MeshError) as caught:
        await attempt
    return caught.value
