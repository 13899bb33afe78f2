"""Results of one ingest stream that are ready to go out, as many together as there are."""

from __future__ import annotations

import asyncio
from collections import deque

from cbmdhi.gateway.v1.gateway_pb2 import IngestResponse, IngestResult, Slowed

_RESULTS_AT_ONCE = 500


class Results:
    """What is ready to go out. Bounded by the window."""

    def __init__(self) -> None:
        self._ready: deque[IngestResult] = deque()
        self._slowed: Slowed | None = None
        self._event = asyncio.Event()
        self._ended = False

    def put(self, result: IngestResult) -> None:
        """Another one."""
        self._ready.append(result)
        self._event.set()

    def slow(self, slowed: Slowed) -> None:
        """The stream is not read for a while."""
        self._slowed = slowed
        self._event.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._event.set()

    def drop(self) -> int:
        """Nobody takes what is ready; how many there were."""
        dropped = len(self._ready)
        self._ready.clear()
        return dropped

    async def get(self) -> IngestResponse | None:
        """All that is ready, at least one result or why there is none; None after the last."""
        if not self._ended:
            await self._event.wait()
        together = [self._ready.popleft() for _ in range(min(len(self._ready), _RESULTS_AT_ONCE))]
        if not self._ready and not self._ended:
            self._event.clear()
        slowed, self._slowed = self._slowed, None
        return IngestResponse(results=together, slowed=slowed) if together or slowed else None
