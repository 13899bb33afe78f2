"""Results of one ingest stream that are ready to go out, as many together as there are."""

from __future__ import annotations

import asyncio
from collections import deque

from cbmdhi.gateway.v1.gateway_pb2 import IngestResponse, IngestResult, Slowed

_RESULTS_AT_ONCE = 500


class Results:
    """What is ready to go out. Bounded by the window."""

    def __init__(self) -> None:
        self._ready: deque[tuple[IngestResult, int]] = deque()
        self._slowed: Slowed | None = None
        self._event = asyncio.Event()
        self._ended = False

    def put(self, result: IngestResult, commands: int) -> None:
        """Another one, of a group of so many commands."""
        self._ready.append((result, commands))
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
        """Nobody takes what is ready; how many commands it was about."""
        dropped = sum(commands for _, commands in self._ready)
        self._ready.clear()
        return dropped

    async def get(self) -> tuple[IngestResponse, int] | None:
        """All that is ready, at least one result or why there is none, and how many commands it is about;
        None after the last."""
        if not self._ended:
            await self._event.wait()
        together = [self._ready.popleft() for _ in range(min(len(self._ready), _RESULTS_AT_ONCE))]
        if not self._ready and not self._ended:
            self._event.clear()
        slowed, self._slowed = self._slowed, None
        if not together and slowed is None:
            return None
        response = IngestResponse(results=[result for result, _ in together], slowed=slowed)
        return response, sum(commands for _, commands in together)
