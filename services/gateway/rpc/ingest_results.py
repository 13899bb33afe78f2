"""Results of one ingest stream: made once for each submission, and sent as many together as are ready."""

from __future__ import annotations

import asyncio
from collections import deque

from cbmdhi.gateway.v1.gateway_pb2 import IngestResponse, IngestResult, Slowed
from services.runtime.byte_budget import ByteBudget

_RESULTS_AT_ONCE = 500


class Results:
    """What is ready to go out. Each result keeps its commands' part of the window until it is out."""

    def __init__(self, window: ByteBudget) -> None:
        self.window = window
        self._ready: deque[tuple[IngestResult, int]] = deque()
        self._slowed: Slowed | None = None
        self._event = asyncio.Event()
        self._ended = False
        self._has_left = False

    def put(self, result: IngestResult, commands: int) -> None:
        """Another one, of a group of so many commands."""
        if self._has_left:
            self.window.give(commands)
            return
        self._ready.append((result, commands))
        self._event.set()

    def slow(self, slowed: Slowed) -> None:
        """The stream is not read for a while."""
        self._slowed = slowed
        self._event.set()

    async def end(self) -> None:
        """There will be no more: wait until all are out, which is when the window is whole again."""
        await self.window.all_given_back()
        self._ended = True
        self._event.set()

    def leave(self) -> None:
        """The sender has gone. The client's other streams get back what this one had of their window: now
        for what was ready, and for the rest as it is answered."""
        self._has_left = True
        self.window.give(sum(commands for _, commands in self._ready))
        self._ready.clear()

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
