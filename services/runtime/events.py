"""Facts over JetStream: a publisher that awaits the acknowledgement, a durable consumer.

NATS is never the record: it may lose, repeat or invent messages. An event only wakes its handler, which asks
the ledger for the facts. So a false event does no harm, and a lost one is made up for.

    link = await life.enter(NatsConnection(config.nats, "ledger"))  # connects in the background, for ever
    life.readiness.add("nats", link.check)
    publisher = Publisher(link, LEDGER_STREAM, source=config.msp_id)
    await publisher.publish(event.SerializeToString(), message_id=tx_id,
                            event_type=TRANSACTION_COMMITTED, at_ms=event.at_ms)

    consumer = DurableConsumer(link, LEDGER_STREAM, "notify", handle, metrics=life.metrics)
    life.readiness.add("consumer", consumer.check)
    life.spawn("consumer", consumer.run())
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import api
from opentelemetry.trace import SpanKind

from cbmdhi.command.v1 import code_pb2
from services.runtime import telemetry, tracing
from services.runtime.errors import TRANSIENT, MeshError, code_name, guarded
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import StreamSpec
from services.runtime.retry import backoff_seconds

_log = structlog.get_logger()

_FETCHED_AT_ONCE = 16
_FETCH_SECONDS = 2.0
_ACK_WAIT_SECONDS = 30.0
_HANDLER_SECONDS = 10.0
_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 30.0
_LONGEST_REST_SECONDS = 2.0
_AGES = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0)


@dataclass(frozen=True)
class Event:
    """A message as a handler gets it: CloudEvents binary mode. `attempt` counts deliveries from 1."""

    data: bytes
    headers: Mapping[str, str]
    sequence: int
    attempt: int


Handler = Callable[[Event], Awaitable[None]]
HandlerOfMany = Callable[[Sequence[Event]], Awaitable[None]]


class DurableConsumer:
    """Hands each message to `handler`, one at a time; acknowledged when that returns (within 10 s).

    With `together`, waiting messages are handed to that in one call, in order, and acknowledged when it
    returns. It must do all or nothing: when it raises, `handler` gets them one by one.

    A handler that raises MeshError UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED or
    UNKNOWN_OUTCOME, or takes too long, gets the message again, for ever. After anything else it gets
    it again up to `max_attempts` times; then the message is set aside: terminated, counted, logged.
    Messages may come twice, and out of order after a failure: handlers are idempotent and compare versions.
    """

    def __init__(
        self,
        link: NatsConnection,
        stream: StreamSpec,
        durable: str,
        handler: Handler,
        *,
        metrics: telemetry.Metrics,
        together: HandlerOfMany | None = None,
        max_attempts: int = 10,
    ) -> None:
        self._link = link
        self._stream = stream
        self._durable = durable
        self._handler = handler
        self._together = together
        self._max_attempts = max_attempts
        self._failures: dict[int, int] = {}
        self._problem: str | None = "not subscribed yet"
        self._events = metrics.counter("events_consumed", "Events handled, by outcome", ("outcome",))
        self._seconds = metrics.histogram("events_handling", "seconds", "Time to handle an event")
        self._lag = metrics.gauge("events_lag", "count", "Events that wait in the stream")
        self._age = metrics.histogram(
            "events_age", "seconds", "Time from a transaction to its event being handled", buckets=_AGES
        )

    async def run(self) -> None:
        """Consume until cancelled. Goes on when NATS comes back, with or without its data."""
        attempt = 0
        while True:
            try:
                await self._link.wait_connected()
                await self._consume()
                attempt = 0
            except (nats.errors.Error, OSError, TimeoutError, MeshError) as exc:
                self._problem = "JetStream does not answer; see that the NATS server runs with JetStream"
                _log.warning(
                    "consumer.interrupted", consumer=self._durable, error_type=type(exc).__qualname__
                )
                await asyncio.sleep(
                    backoff_seconds(attempt, first=_FIRST_DELAY_SECONDS, longest=_LONGEST_REST_SECONDS)
                )
                attempt += 1

    async def check(self) -> str | None:
        """For readiness: subscribed to an available server."""
        return self._problem if self._link.is_connected else "NATS is not connected; see that its server runs"

    async def _consume(self) -> None:
        """Take messages until the connection was made anew."""
        generation = self._link.generation
        jetstream = self._link.jetstream()
        # The publisher makes the stream. Until then this raises.
        await jetstream.add_consumer(
            self._stream.name,
            api.ConsumerConfig(
                durable_name=self._durable,
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=_ACK_WAIT_SECONDS,
                max_deliver=-1,
                max_ack_pending=4 * _FETCHED_AT_ONCE,
                filter_subject=self._stream.subject,
                # An abandoned consumer is removed when its last message has expired.
                inactive_threshold=self._stream.max_age_seconds,
            ),
        )
        subscription = await jetstream.pull_subscribe_bind(durable=self._durable, stream=self._stream.name)
        self._problem = None
        _log.info("consumer.subscribed", consumer=self._durable, stream=self._stream.name)
        try:
            while self._link.is_connected and self._link.generation == generation:
                try:
                    messages = await subscription.fetch(_FETCHED_AT_ONCE, timeout=_FETCH_SECONDS)
                except TimeoutError:
                    # Nothing came. If the consumer was deleted, this raises.
                    await subscription.consumer_info()
                    continue
                if not await self._handled_together(messages):
                    await self._handle_all(messages)
        finally:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def _handled_together(self, messages: list[Msg]) -> bool:
        """False when they have to be handled one by one."""
        if self._together is None or len(messages) < 2:
            return False
        self._lag.set(messages[-1].metadata.num_pending)
        with (
            tracing.span(
                f"consume {self._stream.name}",
                kind=SpanKind.CONSUMER,
                links=[one for message in messages if (one := tracing.sampled_in(message.headers or {}))],
            ) as span,
            self._seconds.time(),
        ):
            span.set(count=len(messages))
            try:
                async with asyncio.timeout(_HANDLER_SECONDS):
                    await guarded(self._together([_event(one) for one in messages]), "event.handler_crashed")
            except (TimeoutError, MeshError):
                return False
        for message in messages:
            self._failures.pop(message.metadata.sequence.stream, None)
            await message.ack()
            self._observe_age(message.headers or {})
        self._events.labels("done").inc(len(messages))
        return True

    async def _handle_all(self, messages: list[Msg]) -> None:
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        for place, message in enumerate(messages):
            if loop.time() - told_at > _ACK_WAIT_SECONDS / 3:
                for waiting in messages[place:]:
                    await waiting.in_progress()
                told_at = loop.time()
            await self._handle(message)

    async def _handle(self, message: Msg) -> None:
        event = _event(message)
        self._lag.set(message.metadata.num_pending)
        with (
            tracing.span(
                f"consume {self._stream.name}",
                parent=tracing.extract(event.headers),
                kind=SpanKind.CONSUMER,
            ) as span,
            self._seconds.time(),
        ):
            try:
                async with asyncio.timeout(_HANDLER_SECONDS):
                    await guarded(self._handler(event), "event.handler_crashed")
            except TimeoutError:
                span.fail(code_pb2.CODE_DEADLINE_EXCEEDED)
                await self._refused(message, event, code_pb2.CODE_DEADLINE_EXCEEDED)
            except MeshError as err:
                span.fail(err.code)
                await self._refused(message, event, err.code)
            else:
                self._failures.pop(event.sequence, None)
                await message.ack()
                self._observe_age(event.headers)
                self._events.labels("done").inc()

    def _observe_age(self, headers: Mapping[str, str]) -> None:
        try:
            happened = datetime.fromisoformat(headers["ce-time"])
        except (KeyError, ValueError):  # not of our publisher
            return
        age_seconds = (datetime.now(UTC) - happened).total_seconds()
        self._age.observe(max(0.0, age_seconds), telemetry.exemplar())

    async def _refused(self, message: Msg, event: Event, code: int) -> None:
        if code not in TRANSIENT:
            self._failures[event.sequence] = self._failures.get(event.sequence, 0) + 1
            if self._failures[event.sequence] >= self._max_attempts:
                del self._failures[event.sequence]
                await message.term()
                self._events.labels("set_aside").inc()
                _log.error(
                    "event.set_aside", sequence=event.sequence, code=code_name(code), attempt=event.attempt
                )
                return
        delay = backoff_seconds(event.attempt - 1, first=_FIRST_DELAY_SECONDS, longest=_LONGEST_DELAY_SECONDS)
        await message.nak(delay)
        self._events.labels("retried").inc()
        _log.warning(
            "event.retried",
            sequence=event.sequence,
            code=code_name(code),
            attempt=event.attempt,
            delay_ms=int(delay * 1000),
        )


def _event(message: Msg) -> Event:
    meta = message.metadata
    return Event(message.data, message.headers or {}, meta.sequence.stream, meta.num_delivered)
