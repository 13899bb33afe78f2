"""Specifications of streams, and publishing to them with awaited acknowledgements."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.js import JetStreamContext, api

from services.runtime import tracing
from services.runtime.errors import MeshError
from services.runtime.nats_connection import NatsConnection

TRANSACTION_COMMITTED = "cbmdhi.ledger.transaction.committed.v1"
"""CloudEvents type of `ledger.v1.TransactionCommitted`."""


@dataclass(frozen=True)
class StreamSpec:
    """The settings with which a publisher makes a missing stream. An existing stream is not changed."""

    name: str
    subject: str
    max_age_seconds: float = 7 * 86_400
    max_bytes: int = 256 << 20
    duplicate_window_seconds: float = 600


_PREPARE_SECONDS = 5.0

LEDGER_STREAM = StreamSpec("CBMDHI_LEDGER", "cbmdhi.ledger.transaction")


class Publisher:
    """Publishes to one stream, which it makes when it is missing. `source` is the member's MSP id."""

    def __init__(self, link: NatsConnection, stream: StreamSpec, *, source: str) -> None:
        self._link = link
        self._stream = stream
        self._source = source
        self._has_stream = False

    async def prepare(self) -> None:
        """Make the stream before there is anything to publish. Raises MeshError UNAVAILABLE."""
        try:
            async with asyncio.timeout(_PREPARE_SECONDS):
                await self._ready_stream()
        except (nats.errors.Error, OSError, TimeoutError) as exc:
            raise MeshError.unavailable("JetStream does not answer", retry_after_ms=500) from exc

    async def publish(
        self, data: bytes, *, message_id: str, event_type: str, at_ms: int, deadline_seconds: float = 5.0
    ) -> int:
        """Publish one CloudEvent and wait until the stream has it; gives its sequence number.

        message_id  the event's id; within the stream's duplicate window the same id is stored once
        at_ms       time of what happened, Unix ms

        Raises MeshError UNAVAILABLE (no acknowledgement: publish again, the id makes that harmless),
        TOO_LARGE (over the NATS server's max_payload).
        """
        headers = tracing.inject_headers(
            {
                "Nats-Msg-Id": message_id,
                "ce-specversion": "1.0",
                "ce-id": message_id,
                "ce-source": self._source,
                "ce-type": event_type,
                "ce-time": datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
                "content-type": "application/protobuf",
            }
        )
        try:
            async with asyncio.timeout(deadline_seconds):
                jetstream = await self._ready_stream()
                ack = await jetstream.publish(
                    self._stream.subject,
                    data,
                    timeout=deadline_seconds,
                    stream=self._stream.name,
                    headers=headers,
                )
        except nats.errors.MaxPayloadError as exc:
            raise MeshError.too_large(
                "the event is over max_payload of the NATS server; raise that limit"
            ) from exc
        except (nats.errors.Error, OSError, TimeoutError) as exc:
            self._has_stream = False
            raise MeshError.unavailable(
                "JetStream did not acknowledge; publish again", retry_after_ms=500
            ) from exc
        return ack.seq

    async def _ready_stream(self) -> JetStreamContext:
        jetstream = self._link.jetstream()
        if not self._has_stream:
            await ensure_stream(jetstream, self._stream)
            self._has_stream = True
        return jetstream


async def ensure_stream(jetstream: JetStreamContext, stream: StreamSpec) -> None:
    """Make the stream if it is missing. An existing one stays as its operator made it."""
    try:
        await jetstream.stream_info(stream.name)
    except nats.js.errors.NotFoundError:
        await jetstream.add_stream(
            api.StreamConfig(
                name=stream.name,
                subjects=[stream.subject],
                storage=api.StorageType.FILE,
                retention=api.RetentionPolicy.LIMITS,
                discard=api.DiscardPolicy.OLD,
                max_age=stream.max_age_seconds,
                max_bytes=stream.max_bytes,
                duplicate_window=stream.duplicate_window_seconds,
            )
        )
