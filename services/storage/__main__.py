"""Start the storage service: configuration, adapters, service, serve."""

from __future__ import annotations

import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.protocol import hpke, signature
from cbmdhi.storage.v1 import storage_pb2_grpc
from services.runtime import clock
from services.runtime.byte_budget import ByteBudget
from services.runtime.client import connect_member, connect_own
from services.runtime.clock import now_ms
from services.runtime.lifecycle import Lifecycle, run
from services.runtime.revocations import Revocations, ask_by, follow, known_of
from services.runtime.server import GrpcServer
from services.runtime.sqlite import Database
from services.storage.channel.consents import Consents
from services.storage.channel.identity_cache import IdentityCache
from services.storage.channel.key_registration import KeyRegistration
from services.storage.channel.ledger import Ledger
from services.storage.channel.peer import OwnPeer
from services.storage.channel.state import ChannelState
from services.storage.config import StorageConfig
from services.storage.domain.batch import MAX_MESSAGE_BYTES, MIB
from services.storage.domain.lease import Quota
from services.storage.emergency.log import EmergencyLog
from services.storage.emergency.notices import PatientNotices
from services.storage.emergency.opener import EmergencyOpener
from services.storage.emergency.queries import EmergencyQueries
from services.storage.emergency.recorder import EmergencyRecorder
from services.storage.member_service import MemberStorageServicer
from services.storage.metrics import StorageMetrics
from services.storage.release.decision_proofs import DecisionProofs
from services.storage.release.key_release import KeyRelease
from services.storage.release.record_opener import RecordOpener
from services.storage.release.release_log import ReleaseLog
from services.storage.release.writer_key_opener import WriterKeyOpener
from services.storage.schema import MIGRATIONS
from services.storage.sealing.sealer import Sealer
from services.storage.sealing.writer_keys import WriterKeys
from services.storage.service import StorageServicer
from services.storage.store.batch_store import BatchStore
from services.storage.store.blobs import Blobs
from services.storage.store.block_cache import BlockCache
from services.storage.store.blocks import Blocks
from services.storage.store.folder_lock import SharedFolder
from services.storage.store.garbage_collector import GarbageCollector
from services.storage.store.kubo import Kubo
from services.storage.store.lease_settler import LeaseSettler
from services.storage.store.leases import Leases
from services.storage.store.member_clients import MemberClients
from services.storage.store.pins import Pins
from services.storage.store.receipts import Receipts
from services.storage.store.replica_host import ReplicaHost
from services.storage.store.replicas import Replicas
from services.storage.vault import Vault, read_private_file


async def serve(config: StorageConfig, life: Lifecycle) -> None:
    """Open what storage works with, put it together, serve."""
    own = config.msp_id
    metrics = StorageMetrics(life.metrics)
    private_key, signing_key = _keys(config)
    folder = await life.enter(SharedFolder(config.require_data_directory()))
    database_file = config.require_data_directory() / "storage.db"
    # A new writer key is only in this database until the channel has it.
    database = await life.enter(Database(database_file, MIGRATIONS, can_be_rebuilt=False))
    kubo = await life.enter(
        Kubo(
            config.kubo_rpc_address,
            metrics,
            call_seconds=config.kubo_call_seconds,
            import_seconds=config.kubo_import_seconds,
        )
    )
    to_ledger = await life.enter(_to_own(config, config.ledger_address, "ledger"))
    ledger = Ledger(to_ledger, own)
    members = MemberClients(await _to_members(config, life), fetch_seconds=config.fetch_seconds)
    revocations = await _revocations(config, life)
    identities = await life.enter(IdentityCache(ledger, revocations, life.metrics))
    vault = Vault(database, database_file, own, private_key)

    leases = Leases(database)
    block_cache = BlockCache(config.recent_mib * MIB)
    pins = Pins(leases, kubo, block_cache, folder.locks("pins"))
    receipts = Receipts(own, config.genesis_sha256, signing_key)
    replicas = Replicas(
        *(members, receipts, metrics), push_seconds=config.push_seconds, spare_seconds=config.spare_seconds
    )
    batch_store = BatchStore(own, leases, pins, replicas, receipts, now_ms)
    settler = LeaseSettler(own, leases, pins, ledger, metrics, now_ms)
    collector = GarbageCollector(leases, pins, kubo, metrics)
    blocks = Blocks(own, kubo, block_cache, pins, members, metrics)
    peer = await life.enter(OwnPeer(config))
    decisions = DecisionProofs(
        peer,
        now_ms,
        wait_seconds=config.commit_wait_seconds,
        max_age_seconds=config.decision_max_age_seconds,
        max_skew_seconds=config.clock_skew_seconds,
    )
    writer_key_opener = WriterKeyOpener(own, ledger, vault, metrics)
    consents = await life.enter(Consents(ledger, life.metrics))
    kept_seconds = config.decision_max_age_seconds + config.clock_skew_seconds
    releases = ReleaseLog(database, now_ms, kept_seconds=kept_seconds)
    key_release = KeyRelease(decisions, identities, writer_key_opener, consents, releases, metrics)
    record_opener = RecordOpener(
        own, key_release, blocks, members, metrics, release_seconds=config.release_seconds
    )
    channel_state, emergency_log = ChannelState(peer), EmergencyLog(database)
    to_notify = await life.enter(_to_own(config, config.notify_address, "notify"))
    recorder = EmergencyRecorder(
        emergency_log, channel_state, ledger, PatientNotices(to_notify), metrics, now_ms
    )
    emergencies = EmergencyOpener(
        *(
            own,
            revocations,
            channel_state,
            emergency_log,
            record_opener,
            writer_key_opener,
            key_release,
            metrics,
            now_ms,
        ),
        wake_recorder=recorder.wake,
        max_skew_seconds=config.clock_skew_seconds,
    )
    emergency_queries = EmergencyQueries(emergencies, channel_state, emergency_log, now_ms)
    budget = ByteBudget(config.in_flight_mib * MIB)
    sealer = Sealer(
        *(
            own,
            ledger,
            identities,
            WriterKeys(vault, ledger),
            batch_store,
            leases,
            block_cache,
            budget,
            metrics,
            now_ms,
        )
    )
    replica_host = ReplicaHost(
        *(pins, block_cache, budget, receipts, metrics, now_ms),
        quota=Quota(config.leases_per_member, config.leased_mib_per_member * MIB),
    )
    folder.admit()
    life.spawn("settler", settler.run())
    life.spawn("collector", collector.run())
    life.spawn("recorder", recorder.run())

    registration = KeyRegistration(own, ledger, vault.public_key, signature.spki(signing_key.public_key()))
    life.readiness.add("clock", clock.agrees_with({"ledger": to_ledger}))
    life.readiness.add("database", database.check)
    life.readiness.add("kubo", kubo.check)
    life.readiness.add_service("ledger", ledger.check)
    # Finds wrong key files at the start, by the ledger's answer.
    life.readiness.add_service("registration", registration.check)
    life.readiness.add_service("peer", peer.check)
    life.readiness.add("vault", vault.check)
    server = GrpcServer(config, life, max_message_bytes=MAX_MESSAGE_BYTES)
    server.add(
        storage_pb2_grpc.add_StorageServiceServicer_to_server,
        StorageServicer(
            sealer,
            record_opener,
            Blobs(own, ledger, batch_store, blocks, leases),
            collector,
            emergency_queries,
        ),
    )
    server.add(
        storage_pb2_grpc.add_MemberStorageServiceServicer_to_server,
        MemberStorageServicer(replica_host, key_release, blocks),
    )
    await life.serve(server)


def _keys(config: StorageConfig) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """The vault's private key and the signing key. Raises OSError saying what is wrong with a file."""
    try:
        private_key = read_private_file(config.vault_key_file)
        hpke.public_of(private_key)
        return private_key, signature.load_private_key(read_private_file(config.storage_signing_key_file))
    except ValueError as exc:
        raise OSError(f"a key file cannot be used: {exc}") from exc


async def _revocations(config: StorageConfig, life: Lifecycle) -> Revocations:
    """Whom the members' CAs have revoked, as the own identity service tells."""
    revocations = Revocations.of(config.client_ca)
    asked = follow(
        revocations,
        ask_by(await life.enter(_to_own(config, config.identity_address, "identity"))),
        member=config.msp_id,
        every_seconds=config.revocations_every_seconds,
    )
    life.spawn("revocations", asked)
    life.readiness.add("revocations", known_of(revocations, config.msp_id))
    return revocations


def _to_own(config: StorageConfig, address: str, service: str) -> grpc.aio.Channel:
    return connect_own(config, address, service, MAX_MESSAGE_BYTES)


async def _to_members(config: StorageConfig, life: Lifecycle) -> dict[str, grpc.aio.Channel]:
    return {
        member.msp_id: await life.enter(
            connect_member(config, member.msp_id, member.storage_address, "storage", MAX_MESSAGE_BYTES)
        )
        for member in config.members
        if member.msp_id != config.msp_id
    }


if __name__ == "__main__":
    run(serve, StorageConfig.load())
