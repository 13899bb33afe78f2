"""The services behind the gateway, played by fakes that speak the protos."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol import call, signature
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.callers import require_peer
from services.runtime.errors import MeshError
from tests.support.fakes.gateway_neighbours import FakeLedger, FakeStorage
from tests.support.fakes.token_service import TokenService, b64
from tests.support.revoking import der

CHALLENGE = bytes(range(32))


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """The ledger in memory, over the wire."""

    def __init__(self, ledger: FakeLedger) -> None:
        self.ledger = ledger

    async def Submit(self, request: Any, context: Any) -> Any:
        require_peer(context, services={"gateway"})
        return ledger_pb2.SubmitResponse(groups=await self.ledger.submit(request.submissions, request.seals))

    async def GetIdentity(self, request: Any, context: Any) -> Any:
        return ledger_pb2.GetIdentityResponse(identity=_there(await self.ledger.identity(request.address)))

    async def GetIdentities(self, request: Any, context: Any) -> Any:
        documents = await self.ledger.identities(request.addresses)
        return ledger_pb2.GetIdentitiesResponse(
            identities=[ledger_pb2.GetIdentityResponse(identity=document) for document in documents]
        )

    async def GetReceipt(self, request: Any, context: Any) -> Any:
        found = await self.ledger.receipt(request.command_id, request.signer)
        return ledger_pb2.GetReceiptResponse(receipt=_there(found))

    async def GetReceipts(self, request: Any, context: Any) -> Any:
        found = await self.ledger.receipts([(one.signer, one.command_id) for one in request.commands])
        return ledger_pb2.GetReceiptsResponse(
            receipts=[ledger_pb2.GetReceiptResponse(receipt=receipt) for receipt in found]
        )

    async def GetRecordVersions(self, request: Any, context: Any) -> Any:
        places = [(one.record_id, one.version) for one in request.versions]
        found = await self.ledger.record_versions(places)
        return ledger_pb2.GetRecordVersionsResponse(
            versions=[ledger_pb2.GetRecordVersionResponse(record=record) for record in found]
        )

    async def GetRecordVersion(self, request: Any, context: Any) -> Any:
        found = await self.ledger.record(request.record_id, request.version)
        return ledger_pb2.GetRecordVersionResponse(record=_there(found))

    async def GetLatestVersions(self, request: Any, context: Any) -> Any:
        found = await self.ledger.latest_versions(request.record_ids)
        return ledger_pb2.GetLatestVersionsResponse(
            versions=[ledger_pb2.GetRecordVersionResponse(record=record) for record in found]
        )

    async def ListRecords(self, request: Any, context: Any) -> Any:
        return await self.ledger.records(request)

    async def Explain(self, request: Any, context: Any) -> Any:
        return ledger_pb2.ExplainResponse(verdicts=await self.ledger.explain(request.items))

    async def GetConsents(self, request: Any, context: Any) -> Any:
        return ledger_pb2.GetConsentsResponse(consents=await self.ledger.consents(request.patient))

    async def ListAudit(self, request: Any, context: Any) -> Any:
        return ledger_pb2.ListAuditResponse(next_page_token=request.patient)

    async def GetBrokenGlass(self, request: Any, context: Any) -> Any:
        found = await self.ledger.broken_glass(request.break_glass_id, request.clinician)
        return ledger_pb2.GetBrokenGlassResponse(command=_there(found))

    async def Prove(self, request: Any, context: Any) -> Any:
        if request.versions:
            places = [(one.record_id, one.version) for one in request.versions]
            return ledger_pb2.ProveResponse(evidence=await self.ledger.prove_versions(places))
        named = request.command
        evidence = await self.ledger.prove_command(named.command_id, named.signer, request.concerning)
        return ledger_pb2.ProveResponse(evidence=evidence)


class StorageServicer(storage_pb2_grpc.StorageServiceServicer):
    """The storage in memory, over the wire."""

    def __init__(self, storage: FakeStorage) -> None:
        self.storage = storage

    async def Seal(self, request: Any, context: Any) -> Any:
        require_peer(context, services={"gateway"})
        return await self.storage.seal(request.items)

    async def Open(self, request: Any, context: Any) -> Any:
        return await self.storage.open(request.tx_id, request.command_id)

    async def OpenMany(self, request: Any, context: Any) -> Any:
        require_peer(context, services={"gateway"})
        return storage_pb2.OpenManyResponse(results=await self.storage.open_many(request.opens))

    async def GetBlob(self, request: Any, context: Any) -> Any:
        return storage_pb2.GetBlobResponse(blob=await self.storage.blob(request.cid))


@dataclass
class Heard:
    """What reached a service behind the gateway."""

    metadata: list[dict[str, str]] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    def note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.metadata.append(
            {key: value for key, value in context.invocation_metadata() if key.startswith("cbmdhi")}
        )


class SessionServicer(identity_pb2_grpc.SessionServiceServicer):
    """Logs everybody in who signs the challenge."""

    def __init__(self, tokens: TokenService, ledger: FakeLedger, heard: Heard, device: str) -> None:
        self.tokens, self.ledger, self.heard, self.device = tokens, ledger, heard, device

    async def Challenge(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return identity_pb2.ChallengeResponse(
            challenge=CHALLENGE, expires_at_ms=1, device=self.device, channel="cbmdhi"
        )

    async def Login(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        document = await self.ledger.identity(request.address)
        if document is None:
            # As of who has not signed: who is registered is told to nobody.
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "not your signature")
        thumbprint = request.dpop_jkt or request.certificate_x5t_s256
        key = signature.load_public_key(document.signing_public_key)
        try:
            signature.verify(key, request.signature, signature.LOGIN, CHALLENGE, thumbprint.encode())
        except signature.BadSignature as error:
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "not your signature") from error
        cnf = {"jkt" if request.dpop_jkt else "x5t#S256": thumbprint}
        role = Role.Name(document.role).removeprefix("ROLE_").lower()
        more: dict[str, Any] = {}
        if request.HasField("delegation"):
            signed = request.delegation
            more["delegation"] = {
                "delegation": b64(signed.delegation),
                "signature": b64(signed.signature),
            }
        token = self.tokens.token(request.address, cnf, role, **more)
        return identity_pb2.LoginResponse(
            token=token, expires_at_ms=2, expires_in_seconds=self.tokens.seconds
        )

    async def GetTokenKeys(self, request: Any, context: Any) -> Any:
        return identity_pb2.GetTokenKeysResponse(jwks_json=await self.tokens.token_keys())


class RevocationServicer(identity_pb2_grpc.RevocationServiceServicer):
    """Passes on what the members' CAs (by MSP id) sign; a test adds to `revoked`."""

    def __init__(self, authorities: Mapping[str, Any]) -> None:
        self.authorities = authorities
        self.told: Counter[int] = Counter()
        self.revoked: dict[str, list[x509.Certificate]] = {msp_id: [] for msp_id in authorities}

    def asked_since(self, revoked: x509.Certificate) -> int:
        """How often somebody was told that it is revoked."""
        return self.told[revoked.serial_number]

    async def GetRevocations(self, request: Any, context: Any) -> Any:
        self.told.update(one.serial_number for revoked in self.revoked.values() for one in revoked)
        return identity_pb2.GetRevocationsResponse(
            lists=[
                identity_pb2.RevocationList(
                    msp_id=msp_id,
                    crl=authority.revocation_list(*self.revoked[msp_id]),
                    certificates=der(*self.revoked[msp_id]),
                )
                for msp_id, authority in self.authorities.items()
            ]
        )


class EnrolmentServicer(identity_pb2_grpc.EnrolmentServiceServicer):
    """Hears invitations and enrolments."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    async def Invite(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return identity_pb2.InviteResponse(secret="s")

    async def Enrol(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        raise MeshError(code_pb2.CODE_INVALID, "not a CSR", "csr_pem", 5)


class RegistrationServicer(identity_pb2_grpc.RegistrationServiceServicer):
    """Hears who asks."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard

    async def ListReviewers(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return identity_pb2.ListReviewersResponse(channel="cbmdhi")

    async def Register(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return identity_pb2.RegisterResponse()

    async def GetOwnIdentity(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return identity_pb2.GetOwnIdentityResponse()

    async def GetIdentity(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return identity_pb2.GetIdentityResponse()


class InboxServicer(notify_pb2_grpc.InboxServiceServicer):
    """Streams numbers, each after the one that the caller has."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.open = 0

    async def List(self, request: Any, context: Any) -> Any:
        self.heard.note(request, context)
        return notify_pb2.ListResponse(next_page_token=request.page_token)

    async def Stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.heard.note(request, context)
        self.open += 1
        try:
            number = call.parse(request)[2].after if request.call.call else 0
            while True:
                number += 1
                one = notify_pb2.Notification(notification_id=number, tx_id=f"{number:064x}")
                yield notify_pb2.StreamResponse(notification=one)
                await asyncio.sleep(0.05)
        finally:
            self.open -= 1


def _there(found: Any) -> Any:
    if found is None:
        raise MeshError(code_pb2.CODE_NOT_FOUND, "not there")
    return found
