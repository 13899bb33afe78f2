"""Who did not answer is passed over for a while, so that not everybody waits for them again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_SECONDS = 2.0
_LONGEST_SECONDS = 30.0


@dataclass(slots=True)
class _Absence:
    until: float = 0.0
    seconds: float = 0.0


class Unavailability:
    """By name; a while grows from 2 to 30 seconds with each failure, until there is an answer.

    now  a clock, seconds
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._absences: dict[str, _Absence] = {}

    def __contains__(self, name: str) -> bool:
        absence = self._absences.get(name)
        return absence is not None and self._now() < absence.until

    def failed(self, name: str) -> None:
        """It did not answer, or not in time. Many who asked it at the same time count as one."""
        if name in self:
            return
        absence = self._absences.setdefault(name, _Absence())
        absence.seconds = min(_LONGEST_SECONDS, max(_FIRST_SECONDS, 2 * absence.seconds))
        absence.until = self._now() + absence.seconds

    def answered(self, name: str) -> None:
        """It is there."""
        self._absences.pop(name, None)
