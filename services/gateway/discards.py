"""Letting go of what was sealed and not committed: at once, and again later when storage does not answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from services.gateway.metrics import GatewayMetrics
from services.runtime.errors import MeshError, code_name
from services.runtime.retry import backoff_seconds

_log = structlog.get_logger()

_MOST_WAITING = 1_000
_MOST_ATTEMPTS = 10
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0


class Store(Protocol):
    """Storage, or a fake."""

    async def discard(self, root_cid: str, keep_cids: Sequence[str]) -> None: ...


@dataclass
class _Waiting:
    root_cid: str
    keep_cids: Sequence[str]
    attempts: int


class Discards:
    """What cannot be let go now waits, within bounds; what is lost of it is counted."""

    def __init__(
        self, store: Store, metrics: GatewayMetrics, first_delay_seconds: float = _FIRST_DELAY_SECONDS
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._first_delay_seconds = first_delay_seconds
        self._waiting: deque[_Waiting] = deque()
        self._more = asyncio.Event()

    async def discard(self, root_cid: str, keep_cids: Sequence[str], count: int) -> None:
        """Let go of `count` contents of a batch: all but `keep_cids`. Raises nothing."""
        with self._metrics.stage("discard"):
            if await self._try(_Waiting(root_cid, keep_cids, 0)):
                self._metrics.discarded.labels("done").inc(count)
                return
        if len(self._waiting) >= _MOST_WAITING:
            self._metrics.discarded.labels("lost").inc(count)
            _log.error("discard.lost", count=count)
            return
        self._waiting.append(_Waiting(root_cid, keep_cids, 1))
        self._more.set()

    async def run(self) -> None:
        """Try again, for as long as the service lives."""
        while True:
            await self._more.wait()
            while self._waiting:
                entry = self._waiting[0]
                await asyncio.sleep(
                    backoff_seconds(
                        entry.attempts - 1, first=self._first_delay_seconds, longest=_LONGEST_DELAY_SECONDS
                    )
                )
                done = await self._try(entry)
                entry.attempts += 1
                if done or entry.attempts >= _MOST_ATTEMPTS:
                    self._waiting.popleft()
                    self._metrics.discarded.labels("late" if done else "lost").inc()
            self._more.clear()

    async def _try(self, entry: _Waiting) -> bool:
        try:
            await self._store.discard(entry.root_cid, entry.keep_cids)
        except MeshError as err:
            _log.warning("discard.failed", code=code_name(err.code), attempt=entry.attempts)
            return False
        return True
