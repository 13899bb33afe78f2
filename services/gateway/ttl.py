"""A bounded memory of things that are true for a while."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """At most `most` entries, the longest unused go first; each has the time at which it was put."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V) -> None:
        """Remember it as of now."""
        self._entries[key] = (self._clock(), value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, key: K, max_age_seconds: float) -> V | None:
        """What was put not longer ago than that; else None."""
        found = self._entries.get(key)
        if found is None or self._clock() - found[0] > max_age_seconds:
            return None
        self._entries.move_to_end(key)
        return found[1]
