"""The member's NATS server as metrics: its monitor answers in JSON, which Prometheus cannot read.

The ledger exports them and not notify, so that the backlog is visible while nobody consumes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import structlog
from prometheus_client import Counter

from services.runtime.telemetry import Metrics

_log = structlog.get_logger()

_EVERY_SECONDS = 5.0
_ANSWER_SECONDS = 3.0


class NatsMetrics:
    """Series of the server and of one stream.

    A durable consumer is labelled by its service, since its name changes with the service's database.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.up = metrics.gauge("nats_up", "bool", "1 when the NATS server's monitor answered last")
        self.connections = metrics.gauge("nats_connections", "count", "Clients of the NATS server")
        self.memory = metrics.gauge("nats_memory", "bytes", "Resident memory of the NATS server")
        self.slow = metrics.counter("nats_slow_consumers", "Clients that NATS cut off as too slow")
        self.messages_in = metrics.counter("nats_messages_in", "Messages that clients sent to NATS")
        self.messages_out = metrics.counter("nats_messages_out", "Messages that NATS sent to clients")
        self.api_errors = metrics.counter("nats_jetstream_errors", "Requests to JetStream that failed")
        self.stored = metrics.gauge("nats_jetstream_stored", "bytes", "What JetStream keeps on disk")
        self.room = metrics.gauge("nats_jetstream_limit", "bytes", "What JetStream may keep on disk")
        self.stream_messages = metrics.gauge("nats_stream", "messages", "Messages in the stream")
        self.pending = metrics.gauge(
            "nats_consumer_pending",
            "messages",
            "Messages that the consumer has not been given",
            ("consumer",),
        )
        self.unacknowledged = metrics.gauge(
            "nats_consumer_unacknowledged", "messages", "Given and not acknowledged", ("consumer",)
        )
        self.redelivered = metrics.gauge(
            "nats_consumer_redelivered",
            "messages",
            "Given more than once and not acknowledged",
            ("consumer",),
        )
        self.stalled = metrics.gauge(
            "nats_consumer_stalled",
            "seconds",
            "Time since the last acknowledgement while messages wait",
            ("consumer",),
        )


class NatsWatch:
    """`async with NatsWatch(url, stream, metrics) as watch: await watch.run()`."""

    def __init__(
        self, url: str, stream: str, metrics: Metrics, *, every_seconds: float = _EVERY_SECONDS
    ) -> None:
        self._url = url
        self._stream = stream
        self._every_seconds = every_seconds
        self._series = NatsMetrics(metrics)
        self._counted: dict[str, int] = {}
        self._shown: set[str] = set()
        self._waiting_since: dict[str, datetime] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> NatsWatch:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def run(self) -> None:
        """Until cancelled."""
        was_up = True
        while True:
            is_up = await self.look()
            if is_up and not was_up:
                _log.info("nats.monitor_back")
            if was_up and not is_up:
                _log.warning("nats.monitor_away")
            was_up = is_up
            await asyncio.sleep(self._every_seconds)

    async def look(self) -> bool:
        """Read the monitor once; False, and `nats_up` 0, when it does not answer as it should."""
        try:
            server = await self._read("/varz")
            jetstream = await self._read("/jsz?streams=true&consumers=true")
            self._show_server(server)
            self._show_jetstream(jetstream)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            self._series.up.set(0)
            return False
        self._series.up.set(1)
        return True

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("not entered")
        return self._session

    async def _read(self, path: str) -> Any:
        async with self._http().get(self._url + path, allow_redirects=False) as answer:
            answer.raise_for_status()
            return await answer.json()

    def _show_server(self, server: Mapping[str, Any]) -> None:
        series = self._series
        series.connections.set(server["connections"])
        series.memory.set(server["mem"])
        self._count("slow", series.slow, server["slow_consumers"])
        self._count("in", series.messages_in, server["in_msgs"])
        self._count("out", series.messages_out, server["out_msgs"])

    def _show_jetstream(self, jetstream: Mapping[str, Any]) -> None:
        series = self._series
        series.stored.set(jetstream["storage"])
        series.room.set(jetstream["config"]["max_storage"])
        self._count("api", series.api_errors, jetstream["api"]["errors"])
        streams = [
            stream
            for account in jetstream.get("account_details") or ()
            for stream in account.get("stream_detail") or ()
            if stream["name"] == self._stream
        ]
        series.stream_messages.set(sum(stream["state"]["messages"] for stream in streams))
        # Of a service's consumers, the one that acknowledged last: older ones are abandoned.
        consumers = sorted(
            (one for stream in streams for one in stream.get("consumer_detail") or ()), key=_last
        )
        newest = {one["name"].partition("-")[0]: one for one in consumers}
        for label, consumer in newest.items():
            self._show_consumer(label, consumer)
        for label in self._shown - set(newest):
            for gauge in (series.pending, series.unacknowledged, series.redelivered, series.stalled):
                gauge.remove(label)
        self._shown = set(newest)

    def _show_consumer(self, label: str, consumer: Mapping[str, Any]) -> None:
        waiting = consumer["num_pending"] + consumer["num_ack_pending"]
        self._series.pending.labels(label).set(consumer["num_pending"])
        self._series.unacknowledged.labels(label).set(consumer["num_ack_pending"])
        self._series.redelivered.labels(label).set(consumer["num_redelivered"])
        self._series.stalled.labels(label).set(self._stalled_seconds(label, consumer) if waiting else 0.0)
        if not waiting:
            self._waiting_since.pop(label, None)

    def _stalled_seconds(self, label: str, consumer: Mapping[str, Any]) -> float:
        # On an idle stream the last acknowledgement is old, but a new message is not late.
        now = datetime.now(UTC)
        since = max(self._waiting_since.setdefault(label, now), _last(consumer))
        return max(0.0, (now - since).total_seconds())

    def _count(self, name: str, counter: Counter, total: int) -> None:
        """Follow the server's counter, which starts at 0 again after a restart."""
        before = self._counted.get(name, 0)
        counter.inc(total - before if total >= before else total)
        self._counted[name] = total


def _last(consumer: Mapping[str, Any]) -> datetime:
    """When it last acknowledged; if never, when it was made."""
    return datetime.fromisoformat(consumer["ack_floor"].get("last_active") or consumer["created"])
