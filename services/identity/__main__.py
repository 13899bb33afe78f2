"""`python -m services.identity --config FILE`: configuration, adapters, service, serve."""

from __future__ import annotations

from cbmdhi.identity.v1 import identity_pb2_grpc
from cbmdhi.protocol import address as addresses
from services.identity.ca_watch import CaWatch
from services.identity.config import IdentityConfig
from services.identity.enrolment import Enroller
from services.identity.fabric_ca import FabricCa
from services.identity.fabric_ca_transport import Registrar, open_transport
from services.identity.ledger import LedgerClient
from services.identity.registration import Registrations
from services.identity.revocation_watch import RevocationWatch
from services.identity.service import (
    AdministratorCheck,
    EnrolmentServicer,
    RegistrationServicer,
    RevocationServicer,
    SessionServicer,
)
from services.identity.sessions import Sessions
from services.identity.storage import StorageClient
from services.identity.tokens import TokenSigner
from services.runtime import clock
from services.runtime.caller_signature import CallerSignature
from services.runtime.client import connect_member, connect_own
from services.runtime.errors import MeshError
from services.runtime.expiry import note_expiry
from services.runtime.lifecycle import Lifecycle, run
from services.runtime.revocations import Revocations, ask_by, follow, known_of
from services.runtime.server import GrpcServer
from services.runtime.throttle import Throttle

_USED_CHALLENGES = 100_000
"""Most logins of a minute that a replica remembers, of 32 bytes each."""


async def serve(config: IdentityConfig, life: Lifecycle) -> None:
    to_ledger = await life.enter(connect_own(config, config.ledger_address, "ledger"))
    to_storage = await life.enter(connect_own(config, config.storage_address, "storage"))
    ledger, storage = LedgerClient(to_ledger), StorageClient(to_storage)
    transport = await life.enter(
        open_transport(config.fabric_ca_url, config.fabric_ca_tls_file, life.metrics)
    )
    registrar = Registrar.load(config.registrar_certificate_file, config.registrar_key_file)
    note_expiry(life.metrics, "registrar", config.registrar_certificate_file)
    ca = FabricCa(transport, config.fabric_ca_name, registrar)
    signer = TokenSigner(config.token_key_file.read_bytes())
    device = _device(config)

    revocations = Revocations(
        {member.msp_id: member.fabric_ca_file.read_text(encoding="ascii") for member in config.members}
    )
    await _follow_revocations(config, life, ca, revocations)
    asking = CallerSignature(ledger, channel=config.signed_channel, msp_id=config.msp_id)
    administrators = AdministratorCheck(asking, revocations, config.msp_id)
    registrations = Registrations(
        ledger, storage, revocations, msp_id=config.msp_id, channel=config.signed_channel
    )
    sessions = Sessions(
        ledger,
        signer,
        msp_id=config.msp_id,
        used_challenges=_USED_CHALLENGES,
        revocations=revocations,
        token_seconds=config.token_seconds,
        logins=Throttle(
            config.logins_at_once,
            config.logins_per_minute,
            "too many logins of this identity: use the token that you have, or come back after the delay",
        ),
    )
    enrolments = EnrolmentServicer(
        Enroller(ca, revocations, config.msp_id),
        ledger,
        administrators,
        at_once=config.enrolments_at_once,
        per_minute=config.enrolments_per_minute,
    )

    life.readiness.add("clock", clock.agrees_with({"ledger": to_ledger, "storage": to_storage}))
    life.readiness.add_service("ledger", ledger.problem)
    life.readiness.add("revocations", known_of(revocations, config.msp_id))
    life.spawn("fabric-ca-watch", CaWatch(ca, life.metrics).run())
    server = GrpcServer(config, life)
    server.add(identity_pb2_grpc.add_EnrolmentServiceServicer_to_server, enrolments)
    server.add(
        identity_pb2_grpc.add_RegistrationServiceServicer_to_server,
        RegistrationServicer(registrations, ledger, administrators),
    )
    server.add(
        identity_pb2_grpc.add_SessionServiceServicer_to_server,
        SessionServicer(sessions, device=device, channel=config.channel, jwks_json=signer.jwks_json),
    )
    server.add(identity_pb2_grpc.add_RevocationServiceServicer_to_server, RevocationServicer(revocations))
    await life.serve(server)


async def _follow_revocations(
    config: IdentityConfig, life: Lifecycle, ca: FabricCa, revocations: Revocations
) -> None:
    """Follow revocations by the own CA, and by the others through their members' gateways."""
    every = config.revocations_every_seconds
    watch = RevocationWatch(ca, revocations, msp_id=config.msp_id, every_seconds=every)
    life.spawn("revocations", watch.run())
    for member in config.members:
        if member.msp_id == config.msp_id:
            continue
        channel = await life.enter(connect_member(config, member.msp_id, member.gateway_address, "gateway"))
        asked = follow(revocations, ask_by(channel), member=member.msp_id, every_seconds=every)
        life.spawn(f"revocations-{member.msp_id}", asked)


def _device(config: IdentityConfig) -> str:
    device = config.gateway_device_address_file.read_text(encoding="utf-8").strip()
    if not addresses.is_address(device):
        raise MeshError.invalid(
            "gateway_device_address_file holds no address; write the gateway device's there"
        )
    return device


if __name__ == "__main__":
    run(serve, IdentityConfig.load())
