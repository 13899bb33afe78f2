"""What a long measurement says on stderr while it goes on, a line at a time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from bench.load.participants import people_of
from bench.load.plan import Load
from bench.load.session import Show

_EVERY = 250


def spoken(load: Load, *, stages: bool = True) -> Show:
    """Each stage unless `stages` is False; and how many of the load's people are there, as they come."""
    counted = People(people_of(load), time.monotonic)
    return Show(
        people=lambda more: _say(counted.more(more)),
        stage=lambda what: _say(f"    {what}" if stages else ""),
    )


class People:
    """Counts those who are there; each registration takes a moment, so thousands take many minutes."""

    def __init__(self, wanted: int, clock: Callable[[], float]) -> None:
        self._wanted = wanted
        self._clock = clock
        self._began = clock()
        self._there = 0
        self._at_first = 0

    def more(self, count: int) -> str:
        """So many more: a line when enough were registered since the last one, otherwise nothing."""
        before, self._there = self._there, self._there + count
        if count > 1:  # from an earlier run: they took no time
            self._at_first += count
        came = self._there - self._at_first
        if not came or before // _EVERY == self._there // _EVERY:
            return ""
        line = f"    {self._there:,} of {self._wanted:,} people are registered"
        left = (self._clock() - self._began) / came * (self._wanted - self._there)
        return f"{line}, about {left / 60:.0f} min more"


def _say(line: str) -> None:
    if line:
        print(line, file=sys.stderr, flush=True)
