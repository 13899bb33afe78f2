"""A token bucket: so many at once, so many a second, and when there is one again."""

from __future__ import annotations

import math


class TokenBucket:
    """Holds up to `burst` tokens and gets `per_second` more; the clock is the caller's, in seconds.

    most_owed_seconds  what is spent beyond that is forgiven: nobody waits for longer
    """

    def __init__(self, burst: int, per_second: float, most_owed_seconds: float = math.inf) -> None:
        self._least = 1 - most_owed_seconds * per_second
        self._burst = float(burst)
        self._per_second = per_second
        self._level = float(burst)
        self._at: float | None = None

    def wait_seconds(self, now: float) -> float:
        """How long until there is one; 0 when there is."""
        self._fill(now)
        return max(0.0, (1 - self._level) / self._per_second)

    def spend(self, now: float, count: int = 1) -> None:
        """Take one, or so many. They are owed when there are none."""
        self._fill(now)
        self._level = max(self._level - count, self._least)

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._per_second)
        self._at = now
