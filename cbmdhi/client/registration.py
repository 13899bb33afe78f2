"""From a wallet's keys to an active identity: enrolment, registration, review."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError, Message

from cbmdhi.client import receipts, reviewers
from cbmdhi.client.commands import kept_when_cut, submit
from cbmdhi.client.connection import Connection
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument, SealedKey
from cbmdhi.errors import MeshError, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import broken_glass, certificates, cid, command, hpke, json_text
from cbmdhi.protocol.state_keys import sealed_record_key_name

_EVIDENCE = b"cbmdhi/evidence/v1\x00"
_PAGE = 500


class Registration:
    """Enrol, register, invite, review.

    Receipts are proven by the members' peers before they are returned: of whatever is signed here Unproven is
    raised where that is not to be had. An identity's document is the gateway's word, also beside a receipt.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._wallet = connection.wallet

    async def enrol(self, secret: str = "") -> None:
        """Have the member's Fabric CA certify the wallet's key; staff show the secret of their invitation.

        await anna.registration.enrol()
        """
        stub = identity_pb2_grpc.EnrolmentServiceStub(self._connection.first_contact)
        request = identity_pb2.EnrolRequest(
            csr_pem=self._wallet.certificate_request(),
            secret=secret,
            role=self._wallet.role,
        )
        response = await self._connection.anonymous(stub.Enrol, request)
        self._wallet.keep_certificate(response.certificate_pem)
        await self._connection.forget_certificate()

    async def register(
        self, evidence: dict[str, Any] | None = None, custodians: Sequence[str] | None = None
    ) -> Receipt:
        """Ask for the identity. A patient gives evidence, sealed here to the reviewers, and custodians.

        `custodians` are MSP ids, by default every member: each can open the patient's records for a
        permitted reader, and none before a decision is committed. Raises NotCommitted; MeshError INVALID for
        a patient without evidence.

            receipt = await anna.registration.register({"name": "Anna", "document": "passport 123"})
        """
        wallet = self._wallet
        if wallet.role == pb.ROLE_PATIENT and not evidence:
            raise MeshError(
                code_pb2.CODE_INVALID,
                "a patient shows evidence, by which the reviewers know them",
                "evidence",
            )
        body = pb.RegisterIdentity(
            address=wallet.address,
            role=wallet.role,
            home_msp=wallet.member,
            signing_public_key=wallet.spki,
            hpke_public_key=wallet.hpke_public,
            enrolment_certificate=_der(wallet.certificate_pem),
        )
        request = identity_pb2.RegisterRequest()
        if evidence and wallet.role == pb.ROLE_PATIENT:
            administrators = await reviewers.of_evidence(self._connection)
            self._add_custodians(body, request, custodians)
            request.sealed_evidence = _seal_evidence(wallet.address, evidence, administrators)
            body.evidence_cid = cid.raw(request.sealed_evidence)
        signed = wallet.sign_command(command.make(body, channel=wallet.consortium.signed_channel))
        request.command.CopyFrom(signed)
        return await self.send_registration(request)

    async def send_registration(self, request: identity_pb2.RegisterRequest) -> Receipt:
        """Send a registration as it was signed, also once more. Raises as `submit_group` does."""
        stub = identity_pb2_grpc.RegistrationServiceStub(self._connection.authenticated)
        with kept_when_cut(self._connection, request) as noted:
            try:
                receipt = (await self._connection.enrolled(noted(stub.Register), request)).receipt
            except MeshError as error:
                raise to_be_sent(error, [request]) from error
            return await receipts.of_command(self._connection, request.command, receipt, request)

    async def invite(self, address: str, role: pb.Role) -> str:
        """As an administrator: prepare somebody's enrolment. Gives the secret to hand over.

        secret = await administrator.registration.invite(address, pb.ROLE_CLINICIAN)
        """
        stub = identity_pb2_grpc.EnrolmentServiceStub(self._connection.authenticated)
        request = identity_pb2.InviteRequest(address=address, role=role)
        return (await self._connection.personal(stub.Invite, request)).secret

    async def pending(self) -> list[identity_pb2.PendingReview]:
        """As an administrator: every registration that waits for this member's vote, oldest first."""
        stub = identity_pb2_grpc.RegistrationServiceStub(self._connection.authenticated)
        request = identity_pb2.ListPendingReviewsRequest(page_size=_PAGE)
        found: list[identity_pb2.PendingReview] = []
        while True:
            page = await self._connection.personal(stub.ListPendingReviews, request)
            found.extend(page.reviews)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def evidence(self, identity: IdentityDocument) -> dict[str, Any]:
        """As a reviewer: fetch a registration's evidence, check that it is what the patient signed, decrypt.

        Raises MeshError NOT_FOUND (the patient's client has not sent it yet), FORBIDDEN, INTEGRITY.
        """
        stub = identity_pb2_grpc.RegistrationServiceStub(self._connection.authenticated)
        request = identity_pb2.GetEvidenceRequest(address=identity.address)
        answer = await self._connection.personal(stub.GetEvidence, request)
        return self._open_evidence(identity, answer.sealed_evidence)

    def _open_evidence(self, identity: IdentityDocument, sealed_evidence: bytes) -> dict[str, Any]:
        address = identity.address
        if cid.raw(sealed_evidence) != identity.evidence_cid:
            raise MeshError(code_pb2.CODE_INTEGRITY, "the evidence is not what the patient signed")
        try:
            sealed = identity_pb2.SealedEvidence.FromString(sealed_evidence)
            mine = next(entry.sealed for entry in sealed.keys if entry.reviewer == self._wallet.address)
            key = hpke.open(self._wallet.hpke_private, mine, hpke.EVIDENCE_KEY, address, self._wallet.address)
            plain = AESGCM(key).decrypt(
                sealed.ciphertext[:12], sealed.ciphertext[12:], _EVIDENCE + address.encode()
            )
        except StopIteration as error:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN, "the evidence was not sealed to this reviewer"
            ) from error
        except (hpke.CannotOpen, InvalidTag, DecodeError) as error:
            raise MeshError(
                code_pb2.CODE_INTEGRITY, "the evidence does not open: ask for a new one"
            ) from error
        return json.loads(plain)

    async def review(
        self, identity: IdentityDocument, *, approve: bool, reason_code: str = "identity-verified"
    ) -> identity_pb2.ReviewResponse:
        """As an administrator: vote. To approve a patient the evidence is opened, and the vote says which.

        Raises NotCommitted; MeshError as `evidence` does, and then there is no vote.

            for waiting in await administrator.registration.pending():
                await administrator.registration.review(waiting.identity, approve=True)
        """
        if approve and identity.role == pb.ROLE_PATIENT:
            await self.evidence(identity)
        decision = pb.DECISION_APPROVE if approve else pb.DECISION_REJECT
        return await self._vote(identity, decision, reason_code)

    async def _vote(
        self, identity: IdentityDocument, decision: pb.Decision, reason_code: str
    ) -> identity_pb2.ReviewResponse:
        body = pb.ReviewRegistration(
            address=identity.address,
            registration_id=identity.registration_id,
            decision=decision,
            reason_code=reason_code,
            evidence_cid=identity.evidence_cid if decision == pb.DECISION_APPROVE else "",
        )
        signed = self._wallet.sign_command(command.make(body, channel=self._wallet.consortium.signed_channel))
        return await self.send_review(identity_pb2.ReviewRequest(command=signed))

    async def send_review(self, request: identity_pb2.ReviewRequest) -> identity_pb2.ReviewResponse:
        """Send a vote as it was signed, also once more. Raises as `submit_group` does."""
        stub = identity_pb2_grpc.RegistrationServiceStub(self._connection.authenticated)
        with kept_when_cut(self._connection, request) as noted:
            try:
                response = await self._connection.call(noted(stub.Review), request)
            except MeshError as error:
                raise to_be_sent(error, [request]) from error
            proven = await receipts.of_command(self._connection, request.command, response.receipt, request)
        response.receipt.CopyFrom(proven)
        return response

    async def withdraw(self, identity: IdentityDocument) -> identity_pb2.ReviewResponse:
        """As an administrator: take the member's vote back before the registration is decided."""
        return await self._vote(identity, pb.DECISION_WITHDRAW, "withdrawn")

    async def suspend(self, address: str, reason_code: str, consents_void_since_ms: int = 0) -> Receipt:
        """As the identity itself or an administrator of its home member: stop it. Raises NotCommitted.

        `reason_code`: `lost-key`, `left`, `misuse` or `other`. With a patient's lost key an administrator may
        end the consents that were given at `consents_void_since_ms` (Unix ms) or later.
        """
        return await self._submit(
            pb.SuspendIdentity(
                address=address,
                suspend=True,
                reason_code=reason_code,
                consents_void_since_ms=consents_void_since_ms,
            )
        )

    async def reinstate(self, address: str) -> Receipt:
        """As an administrator of its home member: let an identity act again. Raises NotCommitted.

        What the identity itself stopped, and a lost key, take an administrator of another member as well.
        """
        return await self._submit(
            pb.SuspendIdentity(address=address, suspend=False, reason_code="reinstated")
        )

    async def review_break_glass(self, break_glass_id: str, clinician: str, *, justified: bool) -> Receipt:
        """As a privacy officer or administrator: say what was found. Raises NotCommitted.

        It is closed when the clinician's member and another one have spoken.

        break_glass_id  the command by which the glass was broken
        clinician       address of who did it
        """
        return await self._submit(
            pb.ReviewBreakGlass(break_glass_id=break_glass_id, clinician=clinician, justified=justified)
        )

    async def broken_glass(self, break_glass_id: str, clinician: str) -> broken_glass.BrokenGlass:
        """As a reviewer: what was opened, and the reason that the clinician sealed to this wallet.

        Raises MeshError INTEGRITY when the reason is not the clinician's or does not open.
        """
        stub = gateway_pb2_grpc.RecordServiceStub(self._connection.authenticated)
        request = gateway_pb2.GetBrokenGlassRequest(break_glass_id=break_glass_id, clinician=clinician)
        signed = (await self._connection.call(stub.GetBrokenGlass, request)).command
        key = (await self.identity(clinician)).signing_public_key
        wallet = self._wallet
        try:
            return broken_glass.open_for(wallet.address, wallet.hpke_private, signed, clinician, key)
        except broken_glass.NoReason as error:
            raise MeshError(code_pb2.CODE_INTEGRITY, str(error)) from error

    async def identity(self, address: str = "") -> IdentityDocument:
        """The document of an address, by default the wallet's own, which needs a certificate and no session.

        Raises MeshError NOT_FOUND, also for a wallet that is not enrolled: it cannot be registered either.
        """
        if not self._wallet.certificate_pem:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "this wallet is not enrolled yet: enrol it first")
        stub = identity_pb2_grpc.RegistrationServiceStub(self._connection.authenticated)
        if address in ("", self._wallet.address):
            request = identity_pb2.GetOwnIdentityRequest()
            return (await self._connection.enrolled(stub.GetOwnIdentity, request)).identity
        wanted = identity_pb2.GetIdentityRequest(address=address)
        return (await self._connection.call(stub.GetIdentity, wanted)).identity

    async def _submit(self, body: Message) -> Receipt:
        return (await submit(self._connection, body))[0].receipt

    def _add_custodians(
        self,
        body: pb.RegisterIdentity,
        request: identity_pb2.RegisterRequest,
        custodians: Sequence[str] | None,
    ) -> None:
        wallet = self._wallet
        vaults = {msp: member.vault_public_key for msp, member in wallet.consortium.members.items()}
        for msp in custodians if custodians is not None else sorted(vaults):
            if msp not in vaults:
                raise MeshError(
                    code_pb2.CODE_INVALID, f"no member {msp!r}; there are: {', '.join(sorted(vaults))}"
                )
            sealed = hpke.seal(vaults[msp], wallet.hpke_private, hpke.RECORD_KEY, wallet.address, msp)
            body.custodians.add(msp=msp, sealed_key_sha256=hashlib.sha256(sealed).digest())
            request.sealed_keys.append(
                SealedKey(msp=msp, key=sealed_record_key_name(wallet.address), sealed=sealed)
            )


def _seal_evidence(address: str, evidence: dict[str, Any], reviewers: Sequence[IdentityDocument]) -> bytes:
    key, nonce = AESGCM.generate_key(256), secrets.token_bytes(12)
    plain = json_text.dump(evidence)
    sealed = identity_pb2.SealedEvidence(
        ciphertext=nonce + AESGCM(key).encrypt(nonce, plain, _EVIDENCE + address.encode())
    )
    for reviewer in reviewers:
        to_reviewer = hpke.seal(reviewer.hpke_public_key, key, hpke.EVIDENCE_KEY, address, reviewer.address)
        sealed.keys.add(reviewer=reviewer.address, sealed=to_reviewer)
    return sealed.SerializeToString(deterministic=True)


def _der(certificate_pem: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    if not certificate_pem:
        raise MeshError(code_pb2.CODE_INVALID, "this wallet is not enrolled yet: enrol it first")
    return certificates.parse_pem(certificate_pem.encode()).public_bytes(Encoding.DER)
