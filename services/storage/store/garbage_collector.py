"""Garbage collection: unpinned blocks are removed from the Kubo node's disk, a portion at a time.

Kubo's own collection looks at every block of the repository, under a lock that stops imports. Storage knows
which blocks it unpinned and removes only those. Kubo refuses to remove a block that is still pinned. To find
out, it walks all its pins under the same lock, and that takes longer the more pins there are. So a portion is
large, it runs while nothing is imported, and the pause before the next one grows with the time it took.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

import structlog

from services.runtime.errors import MeshError, code_name
from services.storage.metrics import StorageMetrics
from services.storage.store.kubo import Kubo
from services.storage.store.leases import Leases
from services.storage.store.pins import Pins

_log = structlog.get_logger()

_PORTION = 1_000
_EVERY_SECONDS = 2.0
_QUIET_SECONDS = 3.0
# Under constant load a portion runs after this time nevertheless.
_LONGEST_WAIT_SECONDS = 600.0
# The share of time in which the lock may be held.
_MOST_BUSY = 0.01


class GarbageCollector:
    """`run` is the task that collects while nothing is imported."""

    def __init__(
        self,
        leases: Leases,
        pins: Pins,
        store: Kubo,
        metrics: StorageMetrics,
        *,
        every_seconds: float = _EVERY_SECONDS,
        quiet_seconds: float = _QUIET_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._leases = leases
        self._pins = pins
        self._store = store
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._quiet_seconds = quiet_seconds
        self._clock = clock
        self._lock = asyncio.Lock()
        self._next_at = 0.0

    async def run(self) -> None:
        """Collect, for as long as the service lives."""
        last_at = self._clock()
        while True:
            await asyncio.sleep(self._every_seconds)
            quiet = self._pins.idle_seconds() >= self._quiet_seconds
            if self._clock() < self._next_at or not (
                quiet or self._clock() - last_at > _LONGEST_WAIT_SECONDS
            ):
                continue
            last_at = self._clock()
            try:
                await self._portion()
            except MeshError as err:
                _log.warning("blocks.not_collected", code=code_name(err.code))

    async def collect(self) -> tuple[int, int]:
        """Remove all waiting blocks now; gives how many were removed and how many still wait.

        Raises MeshError UNAVAILABLE.
        """
        removed = 0
        while await self._leases.count_waiting():
            removed += await self._portion()
        return removed, await self._leases.count_waiting()

    async def _portion(self) -> int:
        async with self._lock:
            cids = await self._leases.waiting(_PORTION)
            if not cids:
                return 0
            started = self._clock()
            try:
                removed = await self._store.remove(cids)
            finally:
                # A failed call held the node's lock too.
                took = self._clock() - started
                self._next_at = self._clock() + took / _MOST_BUSY
            await self._leases.collected(cids)
            self._metrics.blocks_collected.inc(removed)
            self._metrics.collection_duration.observe(took)
            self._metrics.blocks_waiting.set(await self._leases.count_waiting())
            return removed
