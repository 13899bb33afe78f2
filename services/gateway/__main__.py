"""The gateway: `python -m services.gateway --config FILE`."""

from __future__ import annotations

from cbmdhi.protocol.resource import PATIENT_ELEMENTS
from services.gateway.backends.identity import Identity
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.backends.ledger import Ledger
from services.gateway.backends.storage import MAX_MESSAGE_BYTES, Storage
from services.gateway.config import GatewayConfig
from services.gateway.domain.origin import Origins
from services.gateway.domain.paging import PageTokens
from services.gateway.domain.source import Sources
from services.gateway.fhir.reader import FhirReader
from services.gateway.fhir.schema_loader import load_checker
from services.gateway.fhir.writer import FhirWriter
from services.gateway.health import OptionalBackends, check_of
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.batch_processor import BatchProcessor
from services.gateway.pipeline.batch_queues import BatchQueues, QueueLimits
from services.gateway.pipeline.checks import Checks
from services.gateway.pipeline.client_quota import ClientLimits, ClientQuotas
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.pipeline.resubmissions import Resubmissions
from services.gateway.reads.latest_versions import LatestVersions
from services.gateway.reads.open_batcher import OpenBatcher
from services.gateway.reads.reader import RecordReader
from services.gateway.reads.search import Search
from services.gateway.rest.auth import Authentication
from services.gateway.rest.body import Bodies
from services.gateway.rest.bundles import FhirBundleRoutes
from services.gateway.rest.connection_limit import ConnectionLimit
from services.gateway.rest.fhir import FhirRoutes
from services.gateway.rest.request_slots import RequestSlots
from services.gateway.rest.server import RestServer
from services.gateway.rest.sessions import SessionRoutes
from services.gateway.rest.used_proofs import UsedProofs
from services.gateway.rest.writes import FhirWriteRoutes
from services.gateway.rpc.admission import Admission
from services.gateway.rpc.commands import Commands
from services.gateway.rpc.emergency import Emergency
from services.gateway.rpc.forward import Forwarder
from services.gateway.rpc.ingest import Ingest
from services.gateway.rpc.login_binding import login_inspector
from services.gateway.rpc.records import Records
from services.gateway.rpc.routes import LOGIN, Target, Throttled
from services.gateway.rpc.server import TRANSPORT_BYTES, RpcServer
from services.gateway.sessions.client_certificates import ClientCertificates
from services.gateway.sessions.delegated_signer import DelegatedSigner
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.device import Device, Registrar
from services.gateway.sessions.sessions import Sessions
from services.gateway.sessions.shared_state import NatsSharedState, SharedState
from services.gateway.sessions.token_keys import TokenKeys
from services.runtime import clock
from services.runtime.callers import PeerDirectory
from services.runtime.client import connect
from services.runtime.expiry import note_expiry
from services.runtime.lifecycle import Lifecycle, run
from services.runtime.nats_connection import NatsConnection
from services.runtime.revocations import Revocations, ask_by, follow, known_of
from services.runtime.server import GrpcServer, server_credentials
from services.runtime.side_process import SideProcess
from services.runtime.throttle import Throttle

_USED_PROOFS = 200_000
_REST_CALLERS = 1_024
_REST_ANONYMOUS = 256
_REST_BODIES_BYTES = 128 * 1024 * 1024
# Each may have a message of TRANSPORT_BYTES that nobody looked at: gRPC takes it in before it tells of it.
_CALLS_PER_CONNECTION = 256
_FIRST_CONTACTS_PER_CONNECTION = 16
# Whoever calls there shows nothing: as much as the evidence of a registration needs.
_FIRST_CONTACT_BYTES = 2 * 1024 * 1024
# Of a stream that is not read. With 100 ms to the sender and back: 2,600 records of 1 kB a second.
_READ_AHEAD_BYTES = 256 * 1024


async def serve(config: GatewayConfig, life: Lifecycle, shared: SharedState | None = None) -> None:
    """Configuration, adapters, pipeline, servers. `shared`: in place of the member's NATS."""
    metrics = GatewayMetrics(life.metrics)
    device = Device.load(config.device_key_directory)
    note_expiry(life.metrics, "device", config.device_key_directory / "certificate.pem")
    checker, schemas = load_checker()

    channels = {
        name: await life.enter(
            connect(
                address,
                config.tls,
                service=name,
                organisation=config.organisation,
                msp_id=config.msp_id,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        )
        for name, address in (
            ("ledger", config.ledger_address),
            ("storage", config.storage_address),
            ("identity", config.identity_address),
            ("notify", config.notify_address),
        )
    }
    ledger, storage = Ledger(channels["ledger"]), Storage(channels["storage"])
    identity = Identity(channels["identity"])
    optional = OptionalBackends(metrics)
    for name, channel in channels.items():
        (optional.add if name == "notify" else life.readiness.add_service)(name, check_of(channel, name))

    if shared is None:
        nats = await life.enter(NatsConnection(config.nats, "gateway"))
        shared = NatsSharedState(nats)
        life.spawn("shared", shared.run())
        # Not of readiness: without NATS, REST alone stands still.
        optional.add("nats", shared.check)

    life.readiness.add("clock", clock.agrees_with(channels))

    revocations = Revocations.of(config.client_ca)
    life.readiness.add("revocations", known_of(revocations, config.msp_id))
    life.spawn(
        "revocations",
        follow(
            revocations,
            ask_by(channels["identity"]),
            member=config.msp_id,
            every_seconds=config.revocations_every_seconds,
        ),
    )
    identities = IdentityCache(ledger, revocations.is_revoked)
    sessions = Sessions(
        TokenKeys(identity.token_keys),
        identities,
        own_msp=config.msp_id,
        most=config.open_sessions,
        revocations_problem=revocations.problem,
    )
    registrar = Registrar(device, ledger, channel=config.signed_channel, msp_id=config.msp_id)
    life.spawn("device", registrar.run())
    life.spawn("optional", optional.run())
    # Entered before the pipeline, left after it: what it has committed is still opened.
    opens = await life.enter(OpenBatcher(storage, life.metrics))
    # For what is large: the event loop is everybody's.
    side_process = await life.enter(
        SideProcess(
            life.metrics,
            name="check",
            cpu_seconds=config.large_content_cpu_seconds,
            memory_bytes=config.large_content_memory_bytes,
        )
    )
    members = frozenset(ca.msp_id for ca in config.client_ca)
    checks = Checks(identities, config.signed_channel, members, checker, side_process, clock.now_ms)
    queues = BatchQueues(
        BatchProcessor(ledger, storage, metrics).process,
        QueueLimits(
            batch_submissions=config.batch_submissions,
            linger_seconds=config.batch_linger_seconds,
            spacing_seconds=config.batch_spacing_seconds,
            most_spacing_seconds=config.batch_spacing_at_most_seconds,
            batches_in_flight=config.batches_in_flight,
        ),
        life.metrics,
    )
    pipeline = await life.enter(Pipeline(checks, Resubmissions(ledger, clock.now_ms), queues, metrics))
    refused = RefusalQuotas(config.refusals_at_once, config.refusals_per_second, config.refusal_debt_seconds)
    quotas = ClientQuotas(
        ClientLimits(
            commands=config.in_flight_per_caller,
            in_bytes=config.in_flight_bytes_per_caller,
            streams=config.streams_per_caller,
        ),
        config.in_flight_bytes,
        refused,
    )
    reader, commands = RecordReader(pipeline, opens, refused), Commands(pipeline, quotas, ledger)

    # gRPC: one port for whoever has a certificate, one for first contact.
    certificates = ClientCertificates(config.client_ca, PeerDirectory.of(config.msp_id, config.tls))
    sources = Sources(config.trusted_proxies)
    throttles = _throttles(config)
    admission = Admission(certificates, sessions, metrics)
    rpc = RpcServer(
        admission=admission,
        quotas=quotas,
        commands=commands,
        records=Records(
            reader,
            Search(ledger, PageTokens(device.secret)),
            LatestVersions(ledger, refused, metrics),
            ledger,
            storage,
        ),
        emergency=Emergency(storage, ledger, refused, config.msp_id),
        ingest=Ingest(
            pipeline,
            metrics,
            window=config.in_flight_per_stream,
            quotas=quotas,
            deadline_seconds=config.stream_deadline_seconds,
            stopping=life.stopping,
        ),
        forwarders={
            Target.IDENTITY: Forwarder(channels["identity"]),
            Target.NOTIFY: Forwarder(channels["notify"]),
        },
        inspected={LOGIN: login_inspector(admission)},
        sources=sources,
        throttles=throttles,
    )
    member_roots = [member.ca_file.read_bytes() for member in config.tls.members]
    mutual = server_credentials(config.tls, b"\n".join([certificates.identity_roots_pem, *member_roots]))
    main = GrpcServer(
        config,
        life,
        credentials=mutual,
        max_message_bytes=TRANSPORT_BYTES,
        max_per_connection=_CALLS_PER_CONNECTION,
        read_ahead_bytes=_READ_AHEAD_BYTES,
    )
    rpc.add_to(main, first_contact=False)
    first_contact = GrpcServer(
        config,
        life,
        address=config.first_contact_address,
        credentials=server_credentials(config.tls, None),
        read_ahead_bytes=_READ_AHEAD_BYTES,
        max_message_bytes=_FIRST_CONTACT_BYTES,
        max_per_connection=_FIRST_CONTACTS_PER_CONNECTION,
        max_running_per_source=config.first_contacts_per_source,
        # What is offered is nobody's business who has not even enrolled.
        reflection_offered=False,
    )
    rpc.add_to(first_contact, first_contact=True)

    # REST: sessions, and FHIR read and written by the device inside its callers' delegations.
    delegations = Delegations(device=device.address, channel=config.signed_channel)
    origins = Origins(config.public_origin, config.other_origins)
    caller_slots = RequestSlots(_REST_CALLERS, config.rest_requests_per_caller)
    authentication = Authentication(sessions, UsedProofs(_USED_PROOFS), shared, caller_slots, origins)
    delegated_signer = DelegatedSigner(
        device, delegations, channel=config.signed_channel, is_registered=lambda: registrar.is_active
    )
    reads = FhirReader(delegated_signer, ledger, reader, refused=refused, side_process=side_process)
    writes = FhirWriter(
        delegated_signer,
        ledger=ledger,
        commands=commands,
        checker=checker,
        refused=refused,
        side_process=side_process,
        stopping=life.stopping,
        drain_seconds=config.drain_seconds,
    )
    bodies = Bodies(_REST_BODIES_BYTES, config.rest_body_seconds)
    writable = schemas.with_any_of(PATIENT_ELEMENTS)
    sessions_over_rest = SessionRoutes(
        identity,
        shared,
        identities,
        delegations,
        commands,
        authentication,
        bodies,
        config.rest_anonymous_body_seconds,
    )
    rest = RestServer(
        address=config.rest_address,
        tls=config.tls,
        readiness=life.readiness,
        metrics=life.metrics,
        routes=[
            *sessions_over_rest.routes(),
            *FhirRoutes(reads, authentication, schemas.types, writable, origins).routes(),
            *FhirWriteRoutes(writes, authentication, bodies, writable, origins).routes(),
            *FhirBundleRoutes(writes, authentication, bodies, origins).routes(),
        ],
        drain_seconds=config.drain_seconds,
        sources=sources,
        connections=ConnectionLimit(sources, config.rest_connections_per_source),
        anonymous_slots=RequestSlots(_REST_ANONYMOUS, config.rest_anonymous_per_source),
        anonymous={"challenge": throttles[Throttled.CHALLENGE], "login": throttles[Throttled.LOGIN]},
    )
    life.readiness.optional = optional.well
    await life.serve(main, first_contact, rest)


def _throttles(config: GatewayConfig) -> dict[Throttled, Throttle]:
    """One for each kind: a flood of one leaves the others."""
    logins = config.logins_at_once, config.logins_per_minute
    enrolments = config.enrolments_at_once, config.enrolments_per_minute
    return {
        Throttled.CHALLENGE: Throttle(*logins),
        Throttled.LOGIN: Throttle(*logins),
        Throttled.ENROLMENT: Throttle(*enrolments),
        Throttled.REGISTRATION: Throttle(*enrolments),
    }


if __name__ == "__main__":
    run(serve, GatewayConfig.load())
