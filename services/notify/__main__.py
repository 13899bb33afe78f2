"""`python -m services.notify --config FILE`."""

from cbmdhi.notify.v1 import notify_pb2_grpc
from services.notify.config import NotifyConfig
from services.notify.emergency import EmergencyServicer
from services.notify.feeds import Feeds
from services.notify.inbox import Inbox
from services.notify.intake import Intake
from services.notify.ledger_facts import LedgerFacts
from services.notify.policy import Policy
from services.notify.retention import Retention
from services.notify.schema import MIGRATIONS
from services.notify.service import InboxServicer
from services.runtime import clock
from services.runtime.caller_signature import CallerSignature, now_ms
from services.runtime.client import connect_own
from services.runtime.events import DurableConsumer
from services.runtime.lifecycle import Lifecycle, run
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM
from services.runtime.registered import Registered
from services.runtime.server import GrpcServer
from services.runtime.sqlite import Database

# An inbox is written at its end: few of its pages are needed again.
_CACHE_MIB = 4


async def serve(config: NotifyConfig, life: Lifecycle) -> None:
    database = await life.enter(
        Database(config.require_data_directory() / "inbox.db", MIGRATIONS, cache_mib=_CACHE_MIB)
    )
    link = await life.enter(NatsConnection(config.nats, "notify"))
    ledger = await life.enter(connect_own(config, config.ledger_address, "ledger"))

    inbox = Inbox(database)
    feeds = Feeds(life.metrics)
    intake = await life.enter(
        Intake(
            inbox,
            feeds,
            LedgerFacts(ledger),
            Policy(ledger),
            life.metrics,
            channel=config.channel,
            home=config.msp_id,
        )
    )
    consumer = DurableConsumer(
        link, LEDGER_STREAM, "notify", intake.handle, together=intake.handle_all, metrics=life.metrics
    )
    life.spawn("consumer", consumer.run())
    life.spawn("inboxes", intake.run(config.catch_up_seconds))
    if config.inbox_days:
        life.spawn("retention", Retention(inbox, config.inbox_days, now_ms).run())
    life.on_stop(feeds.close)

    # NATS is not a condition: without it everything is told some seconds later.
    life.readiness.add("clock", clock.agrees_with({"ledger": ledger}))
    life.readiness.add("database", database.check)
    life.readiness.add("inboxes", intake.check)

    server = GrpcServer(config, life)
    people = Registered(ledger)
    asking = CallerSignature(people, channel=config.signed_channel, msp_id=config.msp_id)
    server.add(notify_pb2_grpc.add_InboxServiceServicer_to_server, InboxServicer(inbox, feeds, asking))
    emergency = EmergencyServicer(
        *(inbox, feeds, people, life.metrics, now_ms),
        channel=config.signed_channel,
        home=config.msp_id,
    )
    server.add(notify_pb2_grpc.add_EmergencyServiceServicer_to_server, emergency)
    await life.serve(server)


if __name__ == "__main__":
    run(serve, NotifyConfig.load())
