"""A token bucket: so many at once, so many a second, and when there is one again."""

from __future__ import annotations


class Bucket:
    """Holds up to `burst` tokens and gets `per_second` more; the clock is the caller's, in seconds."""

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._level = float(burst)
        self._at: float | None = None

    def wait_seconds(self, now: float) -> float:
        """How long until there is one; 0 when there is."""
        self._fill(now)
        return max(0.0, (1 - self._level) / self._per_second)

    def spend(self, now: float) -> None:
        """Take one. It is owed when there is none."""
        self._fill(now)
        self._level -= 1

    def _fill(self, now: float) -> None:
        if self._at is not None:
            self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._per_second)
        self._at = now
