"""The whole identity service, started as its `__main__` starts it, over mTLS: a real Fabric CA behind it.

The ledger is a stand-in with the real surface: what Fabric does is proven elsewhere.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import RegisterIdentity, Role, SignedCommand
from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import call as calls
from cbmdhi.protocol import command, signature
from services.identity.__main__ import serve
from services.identity.config import IdentityConfig, Member
from services.identity.domain import certificate
from services.identity.fabric_ca_transport import Registrar, open_transport
from services.runtime.callers import Caller, caller_metadata
from services.runtime.client import call, connect
from services.runtime.config import Tls, TlsMember
from services.runtime.errors import MeshError
from services.runtime.lifecycle import Lifecycle
from services.runtime.server import GrpcServer
from services.runtime.telemetry import Metrics
from tests.contract.fabric_ca_server import (
    FabricCaServer,
    free_ports,
    registrar_of,
)
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_ca import Root, Wallet
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MERCY = "MercyMSP"


class Ledger(ledger_pb2_grpc.LedgerServiceServicer):
    """Knows the identities that a test puts there."""

    def __init__(self) -> None:
        self.documents: dict[str, IdentityDocument] = {}
        self.registrations: dict[str, SignedCommand] = {}

    async def GetIdentity(
        self, request: ledger_pb2.GetIdentityRequest, context: object
    ) -> ledger_pb2.GetIdentityResponse:
        if request.address not in self.documents:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "no such identity")
        return ledger_pb2.GetIdentityResponse(
            identity=self.documents[request.address], registration=self.registrations[request.address]
        )

    async def GetHeight(
        self, request: ledger_pb2.GetHeightRequest, context: object
    ) -> ledger_pb2.GetHeightResponse:
        return ledger_pb2.GetHeightResponse(height=1, projected=1)

    def put(self, wallet: Wallet, role: Role) -> None:
        self.documents[wallet.address] = IdentityDocument(
            address=wallet.address,
            role=role,
            home_msp=MERCY,
            status=IdentityStatus.IDENTITY_STATUS_ACTIVE,
            signing_public_key=wallet.spki,
        )
        body = RegisterIdentity(
            address=wallet.address, role=role, home_msp=MERCY, signing_public_key=wallet.spki
        )
        raw = command.make(body, channel=CHANNEL)
        self.registrations[wallet.address] = command.KeySigner(wallet.key).sign_command(raw)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Files:
    """What a member's operator lays down before the service starts."""

    folder: Path
    tls_root: Root = field(default_factory=lambda: Root.new("tls of mercy"))

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def tls(self, service: str) -> Tls:
        key = signature.new_private_key()
        issued = self.tls_root.issue(service, key.public_key(), hosts=("localhost", f"{service}.mercy"))
        return Tls(
            certificate_file=self.write(f"{service}.pem", issued.public_bytes(Encoding.PEM)),
            key_file=self.write(f"{service}.key", private_pem(key)),
            members=(
                TlsMember(msp_id=MERCY, ca_file=self.write("tls-root.pem", self.tls_root.pem.encode())),
            ),
        )


@dataclass
class Running:
    """The service, and how a gateway reaches it."""

    fabric_ca: FabricCaServer
    ledger: Ledger
    life: Lifecycle
    enrolment: identity_pb2_grpc.EnrolmentServiceStub
    session: identity_pb2_grpc.SessionServiceStub
    registrar: Registrar


async def config_of(files: Files, fabric_ca: FabricCaServer, ledger_port: int) -> IdentityConfig:
    registrar = await registrar_of(fabric_ca)
    own, metrics, storage = free_ports(3)
    return IdentityConfig(
        organisation="mercy",
        msp_id=MERCY,
        channel=CHANNEL.name,
        genesis_sha256=CHANNEL.genesis_sha256.hex(),
        listen_address=f"127.0.0.1:{own}",
        metrics_address=f"127.0.0.1:{metrics}",
        drain_seconds=1,
        tls=files.tls("identity"),
        ledger_address=f"127.0.0.1:{ledger_port}",
        storage_address=f"127.0.0.1:{storage}",
        fabric_ca_url=fabric_ca.url,
        fabric_ca_tls_file=fabric_ca.root_file,
        members=(Member(msp_id=MERCY, gateway_address="127.0.0.1:1", fabric_ca_file=fabric_ca.root_file),),
        revocations_every_seconds=0.05,
        registrar_certificate_file=files.write("registrar.pem", registrar.certificate_pem),
        registrar_key_file=files.write("registrar.key", private_pem(registrar.key)),
        token_key_file=files.write("token.key", private_pem(signature.new_private_key())),
        gateway_device_address_file=files.write("device", Wallet().address.encode() + b"\n"),
    )


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    files = Files(folder)
    fabric_ca = FabricCaServer(folder / "fabric-ca")
    try:
        await fabric_ca.start()
        (ledger_port,) = free_ports(1)
        config = await config_of(files, fabric_ca, ledger_port)
        ledger_config = config.model_copy(
            update={"tls": files.tls("ledger"), "listen_address": f"127.0.0.1:{ledger_port}"}
        )
        ledger, ledger_life = Ledger(), Lifecycle(ledger_config, Metrics("ledger"))
        ledger_server = GrpcServer(ledger_config, ledger_life)
        ledger_server.add(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, ledger)
        await ledger_server.start()
        life = Lifecycle(config)
        serving = asyncio.create_task(serve(config, life))
        channel = connect(
            config.listen_address, files.tls("gateway"), service="identity", organisation="mercy"
        )
        try:
            await ready(life, serving)
            yield Running(
                fabric_ca,
                ledger,
                life,
                identity_pb2_grpc.EnrolmentServiceStub(channel),
                identity_pb2_grpc.SessionServiceStub(channel),
                Registrar.load(config.registrar_certificate_file, config.registrar_key_file),
            )
        finally:
            await channel.close()
            life.stop()
            await serving
            await life.close()
            await ledger_server.stop(0)
    finally:
        await fabric_ca.remove()


async def ready(life: Lifecycle, serving: asyncio.Task[None]) -> None:
    async def there() -> bool:
        if serving.done():
            await serving
        return (await life.readiness.report()).ready

    await until(there, "the service is ready", 20)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(tmp_path_factory.mktemp("identity")) as one:
        yield one


async def test_a_clinician_is_invited_enrols_and_logs_in(service: Running) -> None:
    administrator, clinician = Wallet(), Wallet()
    service.ledger.put(administrator, Role.ROLE_ADMINISTRATOR)

    invitation = identity_pb2.InviteRequest(address=clinician.address, role=Role.ROLE_CLINICIAN)
    invited = await call(
        service.enrolment.Invite,
        calls.sign(invitation, command.KeySigner(administrator.key), channel=CHANNEL, msp=MERCY),
        deadline_seconds=10,
        metadata=caller_metadata(Caller(administrator.address, "administrator", MERCY)),
    )
    enrolled = await call(
        service.enrolment.Enrol,
        identity_pb2.EnrolRequest(csr_pem=clinician.csr(), secret=invited.secret, role=Role.ROLE_CLINICIAN),
        deadline_seconds=10,
    )
    issued = x509.load_pem_x509_certificate(enrolled.certificate_pem.encode())
    assert certificate.role_of(issued) == "clinician"

    service.ledger.put(clinician, Role.ROLE_CLINICIAN)
    assert (await log_in(service, clinician)).token.count(".") == 2


async def log_in(service: Running, wallet: Wallet) -> identity_pb2.LoginResponse:
    challenge = await call(
        service.session.Challenge,
        identity_pb2.ChallengeRequest(address=wallet.address),
        deadline_seconds=5,
    )
    thumbprint = "A" * 43
    request = identity_pb2.LoginRequest(
        address=wallet.address,
        challenge=challenge.challenge,
        signature=signature.sign(wallet.key, signature.LOGIN, challenge.challenge, thumbprint.encode()),
        dpop_jkt=thumbprint,
    )
    return await call(service.session.Login, request, deadline_seconds=5)


async def enrol_patient(service: Running, patient: Wallet) -> identity_pb2.EnrolResponse:
    request = identity_pb2.EnrolRequest(csr_pem=patient.csr(), role=Role.ROLE_PATIENT)
    return await call(service.enrolment.Enrol, request, deadline_seconds=10)


async def test_patients_enrol_at_the_same_moment_and_again(service: Running) -> None:
    patients = [Wallet() for _ in range(3)]
    answers = await asyncio.gather(*(enrol_patient(service, patient) for patient in patients * 2))
    assert len({answer.certificate_pem for answer in answers}) == 6


async def test_while_the_ca_is_away_people_log_in_and_enrolment_says_come_back(service: Running) -> None:
    registered, new = Wallet(), Wallet()
    service.ledger.put(registered, Role.ROLE_PATIENT)
    await service.fabric_ca.stop()
    try:
        with pytest.raises(MeshError) as caught:
            await enrol_patient(service, new)
        assert caught.value.code == code_pb2.CODE_UNAVAILABLE
        assert caught.value.retry_after_ms > 0
        assert (await log_in(service, registered)).token
        assert (await service.life.readiness.report()).ready
        await until_metric(service, "cbmdhi_identity_fabric_ca_up_bool", 0)
    finally:
        await service.fabric_ca.start()
    assert (await enrol_patient(service, new)).certificate_pem
    await until_metric(service, "cbmdhi_identity_fabric_ca_up_bool", 1)


async def test_a_patient_whose_certificate_is_revoked_at_the_ca_is_refused_also_while_it_is_away(
    service: Running,
) -> None:
    stolen, honest = Wallet(), Wallet()
    for patient in (stolen, honest):
        await enrol_patient(service, patient)
        service.ledger.put(patient, Role.ROLE_PATIENT)
        assert (await log_in(service, patient)).token

    await revoke(service, stolen.address)

    async def refused() -> bool:
        try:
            await log_in(service, stolen)
        except MeshError as error:
            return error.code == code_pb2.CODE_INACTIVE_SIGNER
        return False

    await until(refused, "the revoked patient is refused", 5)
    with pytest.raises(MeshError) as caught:
        await enrol_patient(service, stolen)
    assert caught.value.code == code_pb2.CODE_INACTIVE_SIGNER
    await service.fabric_ca.stop()
    try:
        assert await refused()
        assert (await log_in(service, honest)).token
    finally:
        await service.fabric_ca.start()


async def revoke(service: Running, name: str) -> None:
    """At the CA itself, past the service."""
    async with open_transport(
        service.fabric_ca.url, service.fabric_ca.root_file, Metrics("test")
    ) as transport:
        url, body = transport.url("revoke"), json.dumps({"id": name, "caname": "ca"}).encode()
        answer = await transport.exchange(
            "revoke", "POST", url, body, service.registrar.token("POST", url.path, body)
        )
    assert not answer.errors, answer


async def until_metric(service: Running, name: str, value: float) -> None:
    registry = service.life.metrics.registry
    await until(lambda: registry.get_sample_value(name) == value, f"{name} is {value:g}", 15)
