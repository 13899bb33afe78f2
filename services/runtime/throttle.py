"""How often somebody may ask for what costs something, such as a login: for each, by a name or a place.

Each process counts by itself: with two replicas somebody may have twice as much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from services.runtime.errors import MeshError
from services.runtime.token_bucket import TokenBucket
from services.runtime.ttl_cache import TtlCache

_REMEMBERED = 20_000


class Throttle:
    """So many at once, and so many a minute, for each. Raises MeshError RESOURCE_EXHAUSTED.

    reason  what is too much, for whoever is refused
    clock   of seconds, that never goes back
    """

    def __init__(
        self,
        at_once: int,
        per_minute: float,
        reason: str = "too many calls of this kind from where you are; come back after the delay",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._per_second = per_minute / 60
        self._reason = reason
        self._clock = clock
        self._buckets: TtlCache[str, TokenBucket] = TtlCache(_REMEMBERED)

    def take(self, whose: str) -> None:
        """One more of this one."""
        bucket = self._buckets.get(whose)
        if bucket is None:
            bucket = TokenBucket(self._at_once, self._per_second)
            self._buckets.put(whose, bucket)
        now = self._clock()
        if wait := bucket.wait_seconds(now):
            retry_after_ms = math.ceil(wait * 1000)
            raise MeshError.resource_exhausted(self._reason, retry_after_ms=retry_after_ms)
        bucket.spend(now)
