"""How long to wait before the next attempt: longer each time, at random, in all no longer than was said."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

_FIRST_SECONDS = 0.2
_MOST_SECONDS = 10.0


class Backoff:
    """Waits between attempts that bring nothing (exponential, with jitter: who failed together tries apart).

    patience_seconds  for attempts in a row without success, in all; then `is_over`
    """

    def __init__(
        self,
        patience_seconds: float = float("inf"),
        *,
        first_seconds: float = _FIRST_SECONDS,
        most_seconds: float = _MOST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self.patience_seconds = patience_seconds
        self._first_seconds, self._most_seconds = first_seconds, most_seconds
        self._clock = clock
        self._chance = chance or random.SystemRandom()
        self.attempts = 0
        """That failed in a row."""
        self._began = 0.0

    def reset(self) -> None:
        """An attempt brought something."""
        self.attempts = 0

    def next(self, at_least_seconds: float = 0.0) -> float:
        """One more failed: seconds to wait before the next.

        at_least_seconds  as the other end asked for; what is added is at random as well
        """
        if not self.attempts:
            self._began = self._clock()
        longest = min(self._first_seconds * 2**self.attempts, self._most_seconds)
        self.attempts = min(self.attempts + 1, 64)
        return at_least_seconds + longest * (0.5 + self._chance.random() / 2)

    def is_over(self, wait_seconds: float = 0.0) -> bool:
        """Whether patience ends before so many seconds more."""
        return self.attempts > 0 and self._clock() + wait_seconds - self._began > self.patience_seconds
