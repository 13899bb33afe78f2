"""A look-up that sends questions in batches and caches answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from services.runtime.batching import MicroBatcher
from services.runtime.concurrency import outcomes
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from services.runtime.ttl_cache import TtlCache

_AT_ONCE = 500
_LINGER_SECONDS = 0.005
_QUEUE = 10_000
_IN_FLIGHT = 2

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BatchedLookup(Generic[K, V]):
    """Sends the questions of many callers in one batch, each question once. `close` it.

    ask      gives answers in order, or a MeshError in the place of one. What it raises counts for every key
    known    the cache of answers
    lasting  whether an answer may be cached
    name     of the metrics
    """

    def __init__(
        self,
        ask: Callable[[Sequence[K]], Awaitable[Sequence[V | MeshError]]],
        known: TtlCache[K, V],
        metrics: Metrics,
        name: str,
        *,
        lasting: Callable[[K, V], bool] = lambda _key, _answer: True,
    ) -> None:
        self._ask = ask
        self._known = known
        self._lasting = lasting
        self._batcher: MicroBatcher[K, V] = MicroBatcher(
            self._answers,
            max_count=_AT_ONCE,
            max_bytes=_AT_ONCE,
            linger_seconds=_LINGER_SECONDS,
            max_queue=_QUEUE,
            size_of=lambda _: 1,
            max_in_flight=_IN_FLIGHT,
            metrics=metrics,
            name=name,
        )

    async def close(self) -> None:
        """Take no more questions. Open ones are still answered."""
        await self._batcher.close()

    async def many(self, keys: Iterable[K]) -> dict[K, V | MeshError]:
        """The answer for each key, or why there is none. Unknown keys are asked for in one batch."""
        found: dict[K, V | MeshError] = {}
        asked: dict[K, asyncio.Future[V]] = {}
        for key in dict.fromkeys(keys):
            known = self._known.get(key)
            if known is not None:
                found[key] = known
                continue
            try:
                asked[key] = self._batcher.enqueue(key)
            except MeshError as err:
                found[key] = err
        return found | await outcomes(asked)

    async def _answers(self, keys: list[K]) -> list[V | Exception]:
        wanted = list(dict.fromkeys(keys))
        found = dict(zip(wanted, await self._ask(wanted), strict=True))
        for key, answer in found.items():
            if not isinstance(answer, MeshError) and self._lasting(key, answer):
                self._known.put(key, answer)
        return [found[key] for key in keys]
