"""Letting go of what was sealed and not committed: beside the answers, and again when storage is away."""

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
_FINISH_SECONDS = 5.0


class Store(Protocol):
    """Storage, or a fake."""

    async def discard(self, root_cid: str, keep_cids: Sequence[str]) -> None: ...


@dataclass
class _Waiting:
    root_cid: str
    keep_cids: Sequence[str]
    count: int
    attempts: int = 0


class Discards:
    """Batches to let go of, one after the other: nobody's receipt waits for it. What is lost is counted."""

    def __init__(
        self, store: Store, metrics: GatewayMetrics, first_delay_seconds: float = _FIRST_DELAY_SECONDS
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._first_delay_seconds = first_delay_seconds
        self._waiting: deque[_Waiting] = deque()
        self._more = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()

    def discard(self, root_cid: str, keep_cids: Sequence[str], count: int) -> None:
        """Have `run` let go of `count` contents of a batch: all but `keep_cids`. Raises nothing."""
        if len(self._waiting) >= _MOST_WAITING:
            self._lose(count)
            return
        self._waiting.append(_Waiting(root_cid, keep_cids, count))
        self._done.clear()
        self._more.set()

    async def run(self) -> None:
        """Let go, for as long as the service lives."""
        while True:
            await self._more.wait()
            while self._waiting:
                await self._let_go(self._waiting[0])
                self._waiting.popleft()
            self._more.clear()
            self._done.set()

    async def finish(self) -> None:
        """Before `run` is cancelled: wait a little until nothing is waiting; what is left is lost."""
        try:
            async with asyncio.timeout(_FINISH_SECONDS):
                await self._done.wait()
        except TimeoutError:
            self._lose(sum(entry.count for entry in self._waiting))

    async def _let_go(self, entry: _Waiting) -> None:
        while not await self._try(entry):
            entry.attempts += 1
            if entry.attempts >= _MOST_ATTEMPTS:
                self._lose(entry.count)
                return
            await asyncio.sleep(
                backoff_seconds(
                    entry.attempts - 1, first=self._first_delay_seconds, longest=_LONGEST_DELAY_SECONDS
                )
            )
        self._metrics.discarded.labels("late" if entry.attempts else "done").inc(entry.count)

    async def _try(self, entry: _Waiting) -> bool:
        try:
            with self._metrics.stage("discard"):
                await self._store.discard(entry.root_cid, entry.keep_cids)
        except MeshError as err:
            _log.warning("discard.failed", code=code_name(err.code), attempt=entry.attempts)
            return False
        return True

    def _lose(self, count: int) -> None:
        self._metrics.discarded.labels("lost").inc(count)
        _log.error("discard.lost", count=count)
