"""Remembers what was used, for as long as it could be used again. Each replica remembers its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable


class UsedOnce:
    """Full of what could be used again it takes no more: to forget one would let it in again.

    kept         how long each is remembered, in the unit of the clock that `now` is of
    most         of all
    most_of_one  of one person's; by default as many
    """

    def __init__(self, kept: float, most: int, most_of_one: int | None = None) -> None:
        self._kept = kept
        self._most = most
        self._most_of_one = most if most_of_one is None else most_of_one
        self._until: dict[tuple[Hashable, Hashable], float] = {}
        self._of: Counter[Hashable] = Counter()

    def has(self, one: Hashable, now: float, whose: Hashable = "") -> bool:
        """True when it was used."""
        self._forget(now)
        return (whose, one) in self._until

    def wait(self, now: float, whose: Hashable = "") -> float:
        """How long until one more can be remembered; 0: it can."""
        self._forget(now)
        if len(self._until) < self._most and self._of[whose] < self._most_of_one:
            return 0
        return next(iter(self._until.values())) - now

    def note(self, one: Hashable, now: float, whose: Hashable = "") -> None:
        """Remember it."""
        self._until[whose, one] = now + self._kept
        self._of[whose] += 1

    def _forget(self, now: float) -> None:
        # All are kept for the same time, so the oldest entry expires first.
        while self._until:
            key, until = next(iter(self._until.items()))
            if until > now:
                return
            del self._until[key]
            self._of[key[0]] -= 1
            if not self._of[key[0]]:
                del self._of[key[0]]
