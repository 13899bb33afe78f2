"""Whether the service can do its work now: its state, and checks of what it cannot work without.

Another service counts only until it was available once. Later its failure affects all replicas alike, and
taking all of them out would make a small failure a large one. So the service stays ready, answers what it
can, and UNAVAILABLE to the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from time import monotonic

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError, guarded

Check = Callable[[], Awaitable[str | None]]
"""Gives None when the dependency is well, else a sentence that says what is wrong. May raise MeshError."""

_CHECK_SECONDS = 2.0
_REMEMBER_SECONDS = 1.0
_AWAY = (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_DEADLINE_EXCEEDED)


@dataclass(frozen=True)
class Report:
    """The results of the checks.

    problems   for each check None or a sentence
    tolerated  services that were available once, whose problems do not count
    """

    state: str
    problems: dict[str, str | None]
    tolerated: frozenset[str] = frozenset()

    @property
    def ready(self) -> bool:
        stopped_by = [
            name for name, problem in self.problems.items() if problem and name not in self.tolerated
        ]
        return self.state == "ready" and not stopped_by


class Readiness:
    """Starting, ready or stopping, together with the checks. Answers are cached for a second."""

    def __init__(self) -> None:
        self._state = "starting"
        self._checks: dict[str, Check] = {}
        self._services: set[str] = set()
        self._were_there: set[str] = set()
        self._lock = asyncio.Lock()
        self._last: tuple[float, Report] | None = None
        self.optional: Callable[[], Mapping[str, bool]] = dict
        """Which dependencies are there without which most of the work is done all the same."""

    def add(self, name: str, check: Check) -> None:
        """Make readiness depend on `check`, shown as `name` in /readyz."""
        self._checks[name] = check
        self._last = None

    def add_service(self, name: str, check: Check) -> None:
        """Wait for another service at the start, and later only report whether it is available."""
        self._services.add(name)
        self.add(name, check)

    @property
    def services(self) -> frozenset[str]:
        """The names given to `add_service`."""
        return frozenset(self._services)

    def set_state(self, state: str) -> None:
        """`starting`, `ready`, `stopping` or `failed`. `stopping` and `failed` are final."""
        if self._state == "failed" or (self._state == "stopping" and state != "failed"):
            return
        self._state = state
        self._last = None

    async def report(self) -> Report:
        async with self._lock:
            if self._last is None or monotonic() - self._last[0] > _REMEMBER_SECONDS:
                names = list(self._checks)
                problems = await asyncio.gather(*(_problem(name, self._checks[name]) for name in names))
                found = dict(zip(names, problems, strict=True))
                self._were_there |= {name for name in self._services if found[name] is None}
                self._last = (monotonic(), Report(self._state, found, frozenset(self._were_there)))
            return replace(self._last[1], state=self._state)


async def _problem(name: str, check: Check) -> str | None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await guarded(check(), "readiness.check_failed")
    except TimeoutError:
        return f"no answer within {_CHECK_SECONDS:g} s; {_see(name)}"
    except MeshError as err:
        return f"{err.reason}; {_see(name)}" if err.code in _AWAY else err.reason


def _see(name: str) -> str:
    return f"see that {name} runs and that its address in the configuration is right"
