"""A bounded memory of things that are true for a while."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SOONEST = 0.75


class TtlCache(Generic[K, V]):
    """At most `most` entries, the longest unused go first.

    seconds  for which an entry is remembered, unless who asks says less
    spread   each entry for a share of that time, between three quarters and all of it: what was put
             together is not forgotten, and asked for again, all together
    clock    of seconds, that never goes back; by default the process's
    """

    def __init__(
        self,
        most: int,
        *,
        seconds: float = float("inf"),
        spread: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._most = most
        self._seconds = seconds
        self._soonest = _SOONEST if spread else 1.0
        self._clock = clock or _seconds
        # When it was put, for which share of the time, and what.
        self._entries: OrderedDict[K, tuple[float, float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        """Remember it as of now."""
        share = random.uniform(self._soonest, 1.0) if self._soonest < 1 else 1.0  # noqa: S311 - no secret
        self._entries[key] = (self._clock(), share, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        """Remember it no longer."""
        self._entries.pop(key, None)

    def get(self, key: K, max_age_seconds: float = float("inf")) -> V | None:
        """What was put not longer ago than that, and is not forgotten; else None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        put_at, share, value = entry
        age = self._clock() - put_at
        if age > self._seconds * share:
            del self._entries[key]
            return None
        if age > max_age_seconds * share:
            return None
        self._entries.move_to_end(key)
        return value


def _seconds() -> float:
    return time.monotonic()
