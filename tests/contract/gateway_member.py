"""The real gateway, with the services behind it played by fakes that speak the protos over mTLS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.identity.v1 import identity_pb2_grpc
from cbmdhi.ledger.v1 import ledger_pb2_grpc
from cbmdhi.notify.v1 import notify_pb2_grpc
from cbmdhi.storage.v1 import storage_pb2_grpc
from services.gateway.__main__ import serve
from services.gateway.config import GatewayConfig
from services.gateway.rpc.server import TRANSPORT_BYTES
from services.gateway.sessions.shared_state import SharedState
from services.runtime.config import ClientCa, ServiceConfig
from services.runtime.lifecycle import Lifecycle
from services.runtime.server import GrpcServer
from tests.support.channel import CHANNEL
from tests.support.fakes.gateway_backends import (
    EnrolmentServicer,
    Heard,
    InboxServicer,
    LedgerServicer,
    RegistrationServicer,
    RevocationServicer,
    SessionServicer,
    StorageServicer,
)
from tests.support.fakes.gateway_neighbours import FakeLedger, FakeShared, FakeStorage
from tests.support.fakes.gateway_people import Person
from tests.support.fakes.token_service import TokenService, b64
from tests.support.pki import Consortium
from tests.support.revoking import revocation_list
from tests.support.waiting import free_port, until


class IdentityCa:
    """A member's CA for identities, as its Fabric CA is."""

    def __init__(self, folder: Path, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ca.{name}")])
        root = self._sign(self._name, self._key.public_key(), ca=True)
        self.ca_file = folder / f"identity-ca-{name}.pem"
        self.ca_file.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(self, person: Person) -> x509.Certificate:
        """The certificate of somebody: the common name is the address, the key theirs."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, person.address)])
        return self._sign(name, person.key.public_key(), ca=False)

    def revocation_list(self, *revoked: x509.Certificate) -> bytes:
        """As the CA signs it now, DER."""
        return revocation_list(self._name, self._key, revoked)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


class Backend(ServiceConfig):
    """Configuration of a service that is played."""

    service_name = "backend"


@dataclass
class Member:
    """A member with a running gateway."""

    folder: Path
    config: GatewayConfig
    consortium: Consortium
    identity_ca: IdentityCa
    other_identity_ca: IdentityCa
    ledger: FakeLedger
    storage: FakeStorage
    tokens: TokenService
    heard: Heard
    inbox: InboxServicer
    life: Lifecycle
    device: Person
    revocations: RevocationServicer
    shared: SharedState | None
    """With its other gateways; None: by its NATS."""

    @property
    def tls_root(self) -> bytes:
        return self.consortium.members["mercy"].ca_file.read_bytes()

    def connect(
        self, person: Person | None = None, *, certificate: x509.Certificate | None = None
    ) -> grpc.aio.Channel:
        """To the gRPC port as somebody; as nobody, to the port for first contact."""
        options = [
            ("grpc.ssl_target_name_override", "gateway.mercy"),
            ("grpc.max_send_message_length", 2 * TRANSPORT_BYTES),
            ("grpc.max_receive_message_length", TRANSPORT_BYTES),
        ]
        if person is None:
            credentials = grpc.ssl_channel_credentials(self.tls_root)
            return grpc.aio.secure_channel(self.config.first_contact_address, credentials, options=options)
        certificate = certificate or self.identity_ca.issue(person)
        credentials = grpc.ssl_channel_credentials(
            self.tls_root, pem_of_key(person), certificate.public_bytes(serialization.Encoding.PEM)
        )
        return grpc.aio.secure_channel(self.config.listen_address, credentials, options=options)

    def session(self, person: Person, role: str = "engine", **changed: Any) -> "Caller":
        """A connection with a token that is bound to its certificate."""
        certificate = self.identity_ca.issue(person)
        token = self.tokens.token(person.address, {"x5t#S256": thumbprint(certificate)}, role, **changed)
        return Caller(self.connect(person, certificate=certificate), token)


@dataclass
class Caller:
    """A channel and the metadata that goes with each call."""

    channel: grpc.aio.Channel
    token: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)


def thumbprint(certificate: x509.Certificate) -> str:
    return b64(certificate.fingerprint(hashes.SHA256()))


def pem_of_key(person: Person) -> bytes:
    return person.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@asynccontextmanager
async def running_member(
    folder: Path, *, consortium: Consortium | None = None, nats_url: str = "", **settings: Any
) -> AsyncIterator[Member]:
    """Mercy: a gateway in this process, and what is behind it. Without NATS its gateways share memory."""
    shared = None if nats_url else FakeShared()
    consortium = consortium or Consortium(folder)
    ledger, tokens, heard, device = FakeLedger(), TokenService(), Heard(), Person(role=Role.ROLE_DEVICE)
    storage, inbox = FakeStorage(ledger), InboxServicer(heard)
    ports = {name: free_port() for name in ("ledger", "storage", "identity", "notify", "a", "b", "c")}
    identity_ca, other_ca = IdentityCa(folder, "mercy"), IdentityCa(folder, "lakeside")
    keys = folder / "device"
    keys.mkdir()
    (keys / "signing.key").write_bytes(pem_of_key(device))
    (keys / "hpke.key").write_bytes(device.hpke_keys[0])
    (keys / "certificate.pem").write_bytes(identity_ca.issue(device).public_bytes(serialization.Encoding.PEM))

    def common(name: str) -> dict[str, Any]:
        return {
            "organisation": "mercy",
            "msp_id": "MercyMSP",
            "channel": "cbmdhi",
            "metrics_address": "127.0.0.1:0",
            "drain_seconds": 2.0,
            "tls": consortium.tls(name),
        }

    lives: list[Lifecycle] = []
    servers: list[GrpcServer] = []

    async def play(name: str, *services: tuple[Any, Any]) -> None:
        played = type("Played", (Backend,), {"service_name": name})
        config = played(listen_address=f"127.0.0.1:{ports[name]}", **common(name))
        life = Lifecycle(config)
        server = GrpcServer(config, life, max_message_bytes=33 * 1024 * 1024)
        for add, servicer in services:
            server.add(add, servicer)
        await server.start()
        life.readiness.set_state("ready")
        lives.append(life)
        servers.append(server)

    await play("ledger", (ledger_pb2_grpc.add_LedgerServiceServicer_to_server, LedgerServicer(ledger)))
    await play("storage", (storage_pb2_grpc.add_StorageServiceServicer_to_server, StorageServicer(storage)))
    revocations = RevocationServicer({"MercyMSP": identity_ca, "LakesideMSP": other_ca})
    sessions = SessionServicer(tokens, ledger, heard, device.address)
    await play(
        "identity",
        (identity_pb2_grpc.add_SessionServiceServicer_to_server, sessions),
        (identity_pb2_grpc.add_EnrolmentServiceServicer_to_server, EnrolmentServicer(heard)),
        (identity_pb2_grpc.add_RegistrationServiceServicer_to_server, RegistrationServicer(heard)),
        (identity_pb2_grpc.add_RevocationServiceServicer_to_server, revocations),
    )
    await play("notify", (notify_pb2_grpc.add_InboxServiceServicer_to_server, inbox))

    config = GatewayConfig(
        listen_address=f"127.0.0.1:{ports['a']}",
        first_contact_address=f"127.0.0.1:{ports['b']}",
        rest_address=f"127.0.0.1:{ports['c']}",
        **{"public_origin": f"https://127.0.0.1:{ports['c']}", **settings},
        ledger_address=f"127.0.0.1:{ports['ledger']}",
        storage_address=f"127.0.0.1:{ports['storage']}",
        identity_address=f"127.0.0.1:{ports['identity']}",
        notify_address=f"127.0.0.1:{ports['notify']}",
        device_key_directory=keys,
        genesis_sha256=CHANNEL.genesis_sha256.hex(),
        client_ca=(
            ClientCa(msp_id="MercyMSP", ca_file=identity_ca.ca_file),
            ClientCa(msp_id="LakesideMSP", ca_file=other_ca.ca_file),
        ),
        nats=consortium.nats(nats_url or "tls://127.0.0.1:1", "gateway"),
        **common("gateway"),
    )
    async with _serving(config, shared) as life:
        yield Member(
            folder,
            config,
            consortium,
            identity_ca,
            other_ca,
            ledger,
            storage,
            tokens,
            heard,
            inbox,
            life,
            device,
            revocations,
            shared,
        )
        ledger.hold.set()
    for server in servers:
        await server.stop(0)
    for one in lives:
        await one.close()


@asynccontextmanager
async def another_gateway(member: Member, **settings: Any) -> AsyncIterator[GatewayConfig]:
    """A second gateway of the member, on ports of its own, reached under the same public address."""
    own = {
        name: f"127.0.0.1:{free_port()}"
        for name in ("listen_address", "first_contact_address", "rest_address")
    }
    config = member.config.model_copy(update={**own, **settings})
    async with _serving(config, member.shared):
        yield config


@asynccontextmanager
async def _serving(config: GatewayConfig, shared: SharedState | None) -> AsyncIterator[Lifecycle]:
    life = Lifecycle(config)
    running = asyncio.create_task(serve(config, life, shared))
    try:
        await until(lambda: _is_ready(life, running), "the gateway is ready", seconds=30)
        yield life
    finally:
        life.stop()
        await running
        await life.close()


async def _is_ready(life: Lifecycle, running: asyncio.Task[None]) -> bool:
    if running.done():
        running.result()
    return (await life.readiness.report()).ready
