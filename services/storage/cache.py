"""Things remembered for a while, a bounded number of them."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


# What was remembered together shall not be forgotten, and asked for again, all together.
_SOONEST = 0.75


class Cache(Generic[K, V]):
    """The last used `size` values, each for `seconds` at most and three quarters of that at least."""

    def __init__(self, size: int, *, seconds: float = float("inf")) -> None:
        self._size = size
        self._seconds = seconds
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, unless it is too old or was pushed out."""
        entry = self._values.get(key)
        if entry is None:
            return None
        if time.monotonic() > entry[0]:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return entry[1]

    def put(self, key: K, value: V) -> None:
        """Remember a value; the least used goes when there are too many."""
        seconds = self._seconds * random.uniform(_SOONEST, 1.0)  # noqa: S311 - to spread, not a secret
        self._values[key] = (time.monotonic() + seconds, value)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)
