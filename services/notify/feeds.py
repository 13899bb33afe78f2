"""Open streams: who listens to an inbox now, with a bounded queue for each."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1 import code_pb2
from services.notify.domain import Notification
from services.runtime import tracing
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics

QUEUED_AT_MOST = 256
_STREAMS_OF_ONE = 8


class Offered(NamedTuple):
    """A notification, since when it waits, and the span under which it came, when that is sampled."""

    notification: Notification
    at_ns: int
    span: SpanContext | None

    def delivered(self) -> None:
        """The listener's stream has taken it."""
        if self.span is not None:
            tracing.past("deliver notification", self.at_ns, parent=self.span)


class Feed:
    """What came for one listener since it began to listen."""

    def __init__(self) -> None:
        self._queue: deque[Offered] = deque()
        self._something = asyncio.Event()
        self._end: MeshError | None = None

    def offer(self, notification: Notification) -> None:
        """Queue it; a full queue ends the feed instead."""
        if len(self._queue) >= QUEUED_AT_MOST:
            self._queue.clear()
            self.end(
                MeshError(
                    code_pb2.CODE_RESOURCE_EXHAUSTED,
                    f"more than {QUEUED_AT_MOST} notifications were not read in time; begin the stream again",
                    retry_after_ms=100,
                )
            )
        elif self._end is None:
            self._queue.append(Offered(notification, time.time_ns(), tracing.sampled()))
            self._something.set()

    def end(self, why: MeshError) -> None:
        self._end = self._end or why
        self._something.set()

    async def next(self) -> Offered:
        """The next notification. Raises MeshError when the feed has ended and all was given."""
        while not self._queue:
            if self._end is not None:
                raise self._end
            self._something.clear()
            await self._something.wait()
        return self._queue.popleft()


class Feeds:
    """All feeds, by the inbox's owner."""

    def __init__(self, metrics: Metrics) -> None:
        self._feeds: dict[str, list[Feed]] = {}
        self._open = metrics.gauge("streams_open", "count", "Streams that are open now")
        self._closing = False

    @contextmanager
    def listen(self, owner: str) -> Iterator[Feed]:
        """A feed of what comes from now on. MeshError RESOURCE_EXHAUSTED when the owner has too many."""
        feeds = self._feeds.setdefault(owner, [])
        if len(feeds) >= _STREAMS_OF_ONE:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                f"{_STREAMS_OF_ONE} streams of this inbox are open already; close one",
                retry_after_ms=1_000,
            )
        feed = Feed()
        if self._closing:
            feed.end(_closing())
        feeds.append(feed)
        self._open.inc()
        try:
            yield feed
        finally:
            self._open.dec()
            feeds.remove(feed)
            if not feeds:
                self._feeds.pop(owner, None)

    def publish(self, notifications: Iterable[Notification]) -> None:
        for notification in notifications:
            for feed in self._feeds.get(notification.notice.owner, ()):
                feed.offer(notification)

    def close(self) -> None:
        """End all feeds, and those that are still to come."""
        self._closing = True
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.end(_closing())


def _closing() -> MeshError:
    return MeshError(
        code_pb2.CODE_UNAVAILABLE, "the service is shutting down; begin the stream again", retry_after_ms=500
    )
