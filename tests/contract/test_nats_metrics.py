"""The ledger's translation of a real NATS server's monitor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.ledger.nats_metrics import NatsWatch
from services.runtime.events import DurableConsumer, Event
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM, TRANSACTION_COMMITTED, Publisher
from services.runtime.telemetry import Metrics
from tests.support.nats_server import NatsServer
from tests.support.pki import Consortium
from tests.support.waiting import free_port, until

NOW_MS = 1_800_000_000_000


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[NatsServer, Consortium, str]]:
    consortium = Consortium(tmp_path / "pki")
    port = free_port()
    running = NatsServer(tmp_path / "nats", consortium, monitor_port=port)
    await running.start()
    try:
        yield running, consortium, f"http://127.0.0.1:{port}"
    finally:
        await running.kill()


async def test_a_backlog_is_seen_while_nobody_consumes_and_gone_when_somebody_does(
    server: tuple[NatsServer, Consortium, str],
) -> None:
    nats, consortium, url = server
    metrics = Metrics("ledger")

    def value(what: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"cbmdhi_ledger_nats_{what}", labels)

    async def handle(_: Event) -> None: ...

    async with (
        NatsConnection(consortium.nats(nats.url, "ledger"), "ledger") as link,
        NatsConnection(consortium.nats(nats.url, "notify"), "notify") as reading,
        NatsWatch(url, LEDGER_STREAM.name, metrics) as watch,
    ):
        await link.wait_connected()
        publisher = Publisher(link, LEDGER_STREAM, source="MercyMSP")
        await publisher.prepare()
        consumer = DurableConsumer(reading, LEDGER_STREAM, "notify", handle, metrics=Metrics("notify"))
        running = asyncio.create_task(consumer.run())
        await until(lambda: _is_subscribed(consumer), "subscribed")
        running.cancel()
        await asyncio.wait([running])
        for number in range(7):
            await publisher.publish(
                b"event", message_id=f"m{number}", event_type=TRANSACTION_COMMITTED, at_ms=NOW_MS
            )

        assert await watch.look()
        assert value("up_bool") == 1
        assert value("stream_messages") == 7
        waiting = value("consumer_pending_messages", consumer="notify")
        unacknowledged = value("consumer_unacknowledged_messages", consumer="notify")
        assert (waiting or 0) + (unacknowledged or 0) == 7
        assert value("consumer_stalled_seconds", consumer="notify") == 0, "it waits since just now"

        async def stalled() -> bool:
            await watch.look()
            return (value("consumer_stalled_seconds", consumer="notify") or 0) > 0.1

        await until(stalled, "it waits for a while")
        assert (value("messages_in_total") or 0) >= 7

        again = asyncio.create_task(consumer.run())

        async def consumed() -> bool:
            await watch.look()
            return value("consumer_stalled_seconds", consumer="notify") == 0

        await until(consumed, "nothing waits")
        again.cancel()
        await asyncio.wait([again])


async def test_a_server_that_is_away_is_told_and_counting_goes_on_when_it_is_back(
    server: tuple[NatsServer, Consortium, str],
) -> None:
    nats, consortium, url = server
    metrics = Metrics("ledger")

    def value(what: str) -> float:
        return metrics.registry.get_sample_value(f"cbmdhi_ledger_nats_{what}") or 0.0

    async with (
        NatsConnection(consortium.nats(nats.url, "ledger"), "ledger") as link,
        NatsWatch(url, LEDGER_STREAM.name, metrics) as watch,
    ):
        await link.wait_connected()
        publisher = Publisher(link, LEDGER_STREAM, source="MercyMSP")
        await publisher.publish(b"event", message_id="m", event_type=TRANSACTION_COMMITTED, at_ms=NOW_MS)
        assert await watch.look()
        before = value("messages_in_total")
        assert before > 0

        await nats.kill()
        assert not await watch.look()
        assert value("up_bool") == 0

        await nats.start()
        await until(watch.look, "answers again")
        assert value("up_bool") == 1
        assert value("messages_in_total") >= before


async def _is_subscribed(consumer: DurableConsumer) -> bool:
    return await consumer.check() is None
