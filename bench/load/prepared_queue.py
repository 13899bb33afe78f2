"""The stock of prepared records: full before the clock starts, and topped up during a long run."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from dataclasses import replace

from bench.load import prepare
from bench.load.prepare import Recipe
from bench.load.run import Feed

# A longer run is topped up meanwhile, and the CPU for it is shown apart.
BEFORE_SECONDS = 120.0
_MOST_RECORDS = 150_000
_SPARE_SECONDS = 2.0


class Stock:
    """`async with Stock(recipe, records, streams)`: leaving ends the preparing processes."""

    def __init__(self, recipe: Recipe, records: int, streams: int) -> None:
        load = recipe.load
        self.feeds = [Feed() for _ in range(streams)]
        self._processes = max(os.cpu_count() or 1, 2)
        self._before = min(records, _MOST_RECORDS, round(BEFORE_SECONDS * load.rate) or 1)
        self._lead = prepare.lead_seconds(recipe, self._before, self._processes) if records else 0.0
        self._starts_at = time.time() + self._lead + _SPARE_SECONDS
        self._recipe = replace(recipe, start_ms=int(self._starts_at * 1000))
        self._records = records
        self._taken = 0
        self._resources = AsyncExitStack()

    @property
    def before(self) -> int:
        """How many are signed before the clock starts."""
        return self._before

    async def __aenter__(self) -> Stock:
        self._pool = await self._resources.enter_async_context(prepare.Pool(self._recipe, self._processes))
        self._chunks = self._pool.items(self._before)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    async def fill(self) -> None:
        """Sign what has to be there at the start, and wait for the start: commands are dated to it."""
        if self._records:
            await self._take(self._before)
        if self._taken >= self._records:
            await self._resources.aclose()
        await asyncio.sleep(max(self._starts_at - time.time(), 0))

    async def top_up(self) -> None:
        """During the run: go on until everything is signed, never more than the stock ahead."""
        load, started = self._recipe.load, time.monotonic()
        while self._taken < self._records:
            due = (time.monotonic() - started) * load.rate
            if self._taken - due < self._before:
                await self._take(self._taken + 1)
            else:
                await asyncio.sleep(0.2)

    async def _take(self, until: int) -> None:
        while self._taken < min(until, self._records):
            chunk = await anext(self._chunks, None)
            if chunk is None:
                self._taken = self._records
                break
            self._taken += len(chunk)
            for item in chunk:
                self.feeds[item.number % len(self.feeds)].items.append(item)
        if self._taken >= self._records:
            for feed in self.feeds:
                feed.ended = True
