"""A NATS server, publishers and consumers of the ledger's stream, for tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.events import DurableConsumer, Event
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM, TRANSACTION_COMMITTED, Publisher
from services.runtime.telemetry import Metrics
from tests.support.nats_server import NatsServer
from tests.support.pki import Consortium
from tests.support.waiting import until

# What one could do to the ledger's events, by JetStream.
MANAGED = {
    "publish": lambda jetstream: jetstream.publish("cbmdhi.ledger.transaction", b"forged", timeout=1),
    "purge": lambda jetstream: jetstream.purge_stream(LEDGER_STREAM.name),
    "delete": lambda jetstream: jetstream.delete_stream(LEDGER_STREAM.name),
    "update": lambda jetstream: jetstream.update_stream(
        name=LEDGER_STREAM.name, subjects=[LEDGER_STREAM.subject], max_msgs=1
    ),
    "read": lambda jetstream: jetstream.get_msg(LEDGER_STREAM.name, 1),
    "take over": lambda jetstream: jetstream.add_stream(name="MINE", subjects=["cbmdhi.>"]),
    "end a consumer": lambda jetstream: jetstream.delete_consumer(LEDGER_STREAM.name, "notify"),
}


@dataclass
class Reader:
    """A consumer of the ledger's stream that remembers what it was handed."""

    consumer: DurableConsumer
    events: list[Event]
    metrics: Metrics
    task: asyncio.Task[None] | None = None

    @property
    def data(self) -> list[bytes]:
        return [event.data for event in self.events]

    def count(self, outcome: str) -> float:
        value = self.metrics.registry.get_sample_value(
            "cbmdhi_notify_events_consumed_total", {"outcome": outcome}
        )
        return value or 0.0

    def start(self) -> None:
        self.task = asyncio.create_task(self.consumer.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])


@dataclass
class Bench:
    consortium: Consortium
    server: NatsServer
    stack: AsyncExitStack
    readers: list[Reader] = field(default_factory=list)

    async def link(self, service: str) -> NatsConnection:
        return await self.stack.enter_async_context(
            NatsConnection(self.consortium.nats(self.server.url, service), service)
        )

    async def publisher(self) -> Publisher:
        link = await self.link("ledger")
        await until(lambda: link.is_connected, "publisher connected")
        return Publisher(link, LEDGER_STREAM, source="MercyMSP")

    async def reader(
        self,
        on_event: Callable[[Event], Awaitable[None]] | None = None,
        max_attempts: int = 10,
        together: Callable[[Sequence[Event]], Awaitable[None]] | None = None,
    ) -> Reader:
        events: list[Event] = []

        async def handle(event: Event) -> None:
            events.append(event)
            if on_event is not None:
                await on_event(event)

        metrics = Metrics("notify")
        link = await self.link("notify")
        consumer = DurableConsumer(
            link,
            LEDGER_STREAM,
            "notify",
            handle,
            together=together,
            metrics=metrics,
            max_attempts=max_attempts,
        )
        reader = Reader(consumer, events, metrics)
        reader.start()
        self.readers.append(reader)
        return reader


async def publish(publisher: Publisher, data: bytes) -> int:
    return await publisher.publish(
        data, message_id=f"tx-{data.decode()}", event_type=TRANSACTION_COMMITTED, at_ms=1_700_000_000_123
    )


async def publish_until_taken(publisher: Publisher, data: bytes) -> None:
    async def taken() -> bool:
        try:
            await publish(publisher, data)
        except MeshError as err:
            if err.code != code_pb2.CODE_UNAVAILABLE:
                raise
            return False
        return True

    await until(taken, "published")


async def is_well(reader: Reader) -> bool:
    return await reader.consumer.check() is None
