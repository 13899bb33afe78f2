"""python -m services.ledger --config FILE"""

from cbmdhi.ledger.v1 import ledger_pb2_grpc
from services.ledger.channel.clock import ChannelClock
from services.ledger.channel.epochs import Epochs
from services.ledger.channel.evidence import EvidenceCollector
from services.ledger.channel.fabric_channel import FabricChannel
from services.ledger.channel.peer_state import PeerState
from services.ledger.config import LedgerConfig
from services.ledger.health import Health
from services.ledger.metrics import LedgerMetrics
from services.ledger.nats_metrics import NatsWatch
from services.ledger.projection.block_feed import BlockFeed
from services.ledger.projection.block_numbers import BlockNumbers
from services.ledger.projection.follower import (
    Blocks,
    ProjectionFollower,
    PublicationFollower,
    RecentBlocks,
)
from services.ledger.projection.lists import Lists
from services.ledger.projection.projection import Projection
from services.ledger.projection.schema import MIGRATIONS
from services.ledger.service import LedgerServicer
from services.ledger.submission.batch_submitter import BatchSubmitter
from services.ledger.submission.late_writer_keys import LateWriterKeys
from services.ledger.submission.submitter import Submitter
from services.ledger.traces import Traces
from services.runtime.expiry import note_expiry
from services.runtime.lifecycle import Lifecycle, run
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM, Publisher
from services.runtime.server import GrpcServer
from services.runtime.sqlite import Database

# Of the projection the last pages of some indexes are needed again and again: these.
_CACHE_MIB = 8


async def serve(config: LedgerConfig, life: Lifecycle) -> None:
    metrics = LedgerMetrics(life.metrics)
    database = await life.enter(
        Database(config.require_data_directory() / "projection.db", MIGRATIONS, cache_mib=_CACHE_MIB)
    )
    channel = await life.enter(FabricChannel(config))
    link = await life.enter(NatsConnection(config.nats, "ledger"))

    projection, recent, traces = Projection(database), RecentBlocks(), Traces()
    of_chaincode = {"channel_name": config.channel, "chaincode": config.chaincode}
    publisher = Publisher(link, LEDGER_STREAM, source=config.msp_id)
    follower = ProjectionFollower(channel, projection, recent, metrics, **of_chaincode)
    blocks = Blocks(channel, recent, **of_chaincode)
    publication = PublicationFollower(
        blocks, projection, publisher, metrics, channel_name=config.channel, traces=traces
    )
    life.spawn("projection", follower.run())
    life.spawn("publication", publication.run())

    if config.nats_monitor_url:
        watch = await life.enter(NatsWatch(config.nats_monitor_url, LEDGER_STREAM.name, life.metrics))
        life.spawn("nats-watch", watch.run())
    note_expiry(life.metrics, "fabric", config.fabric_identity.certificate_file)

    block_numbers = BlockNumbers(channel, projection)
    health = Health(channel, projection, metrics)
    channel_clock = ChannelClock()
    epochs = Epochs(channel, metrics, channel_clock=channel_clock)
    life.spawn("epochs", epochs.run())
    life.spawn("late-keys", LateWriterKeys(channel, metrics).run())
    carrier = BatchSubmitter(channel, block_numbers, metrics, traces=traces, epochs=epochs)
    submitter = await life.enter(Submitter(carrier, metrics))
    life.readiness.add("database", database.check)
    life.readiness.add("peer", health.check)
    life.readiness.add("clock", channel_clock.check)

    server = GrpcServer(config, life)
    state, lists = PeerState(channel), Lists(database)
    servicer = LedgerServicer(
        channel_name=config.channel,
        submitter=submitter,
        state=state,
        projection=projection,
        lists=lists,
        block_numbers=block_numbers,
        block_feed=BlockFeed(blocks, projection, config.channel),
        evidence=EvidenceCollector(channel, state, lists),
        health=health,
    )
    server.add(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, servicer)
    await life.serve(server)


if __name__ == "__main__":
    run(serve, LedgerConfig.load())
