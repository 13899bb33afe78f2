"""A token bucket: so many at once, so many a minute, and when to come back."""

from __future__ import annotations

import math

from services.identity.domain.refusal import Refused, Why


class Bucket:
    """Holds up to `burst` tokens and gets `per_minute` more; the clock is the caller's, in seconds."""

    def __init__(self, burst: int, per_minute: float) -> None:
        self._burst = float(burst)
        self._per_second = per_minute / 60
        self._level = float(burst)
        self._at: float | None = None

    def take(self, now: float, what: str) -> None:
        """Take one. Raises Refused RESOURCE_EXHAUSTED with the delay after which there is one."""
        if self._at is not None:
            self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._level < 1:
            wait_ms = math.ceil((1 - self._level) / self._per_second * 1000)
            raise Refused(
                Why.RESOURCE_EXHAUSTED, f"too many {what} at this moment; come back then", "", wait_ms
            )
        self._level -= 1
