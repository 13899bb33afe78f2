"""Open streams: who listens to an inbox now, and is woken when a notification came."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from opentelemetry.trace import SpanContext

from services.runtime import tracing
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics

_STREAMS_OF_ONE = 8


class Woken(NamedTuple):
    """When the first notification came, and its span if that is sampled."""

    at_ns: int
    span: SpanContext | None

    def delivered(self) -> None:
        """The listener's stream has taken the notifications."""
        if self.span is not None:
            tracing.past("deliver notification", self.at_ns, parent=self.span)


class Feed:
    """Wakes one listener, who reads the inbox. The feed holds no notifications, so none can be lost."""

    def __init__(self) -> None:
        self._woken: Woken | None = None
        self._event = asyncio.Event()
        self._end: MeshError | None = None

    def wake(self) -> None:
        """Wake the listener. Two wakes before it looks count as one."""
        self._woken = self._woken or Woken(time.time_ns(), tracing.sampled())
        self._event.set()

    def end(self, why: MeshError) -> None:
        self._end = self._end or why
        self._event.set()

    async def woken(self) -> Woken:
        """Wait for a wake. Raises MeshError when the feed has ended and no wake is left."""
        while self._woken is None:
            if self._end is not None:
                raise self._end
            self._event.clear()
            await self._event.wait()
        woken, self._woken = self._woken, None
        return woken


class Feeds:
    """All feeds, by the inbox's owner."""

    def __init__(self, metrics: Metrics) -> None:
        self._feeds: dict[str, list[Feed]] = {}
        self._open = metrics.gauge("streams_open", "count", "Streams that are open now")
        self._closing = False

    @contextmanager
    def listen(self, owner: str) -> Iterator[Feed]:
        """A feed from now on. Raises MeshError RESOURCE_EXHAUSTED when the owner has too many."""
        feeds = self._feeds.setdefault(owner, [])
        if len(feeds) >= _STREAMS_OF_ONE:
            raise MeshError.resource_exhausted(
                f"{_STREAMS_OF_ONE} streams of this inbox are open already; close one", retry_after_ms=1_000
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

    def wake(self, owners: Iterable[str]) -> None:
        """Wake the listeners of these owners."""
        for owner in owners:
            for feed in self._feeds.get(owner, ()):
                feed.wake()

    def close(self) -> None:
        """End all feeds, present and future."""
        self._closing = True
        for feeds in self._feeds.values():
            for feed in feeds:
                feed.end(_closing())


def _closing() -> MeshError:
    return MeshError.unavailable("the service is shutting down; begin the stream again", retry_after_ms=500)
