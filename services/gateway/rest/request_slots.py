"""How many requests are answered at a time: for each source that is anonymous, for each caller that is not.

Whoever has not said yet who they are takes no slot of those who have. Probes are not counted at all.
"""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError

_RETRY_MS = 1_000


class RequestSlots:
    """Slots for requests, so many in all and for each of those whom they are counted by."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: Counter[str] = Counter()
        self._taken_in_all = 0

    def take(self, whose: str) -> RequestSlot:
        """A slot, until `leave`. Raises MeshError RESOURCE_EXHAUSTED."""
        if self._taken[whose] >= self._most_of_one:
            raise _full(f"{self._most_of_one} requests of yours are being answered; wait for them")
        if self._taken_in_all >= self._most:
            raise _full("too many requests at a time; send again")
        self._count(whose, 1)
        return RequestSlot(self, whose)

    def give(self, whose: str) -> None:
        """Somebody's slot is free again. Nothing is kept of who has none."""
        self._count(whose, -1)

    def _count(self, whose: str, more: int) -> None:
        self._taken_in_all += more
        self._taken[whose] += more
        if not self._taken[whose]:
            del self._taken[whose]


class RequestSlot:
    """One request's slot."""

    def __init__(self, slots: RequestSlots, whose: str) -> None:
        self._slots = slots
        self.whose = whose

    def leave(self) -> None:
        """The request is over."""
        self._slots.give(self.whose)


def _full(reason: str) -> MeshError:
    return MeshError(code_pb2.CODE_RESOURCE_EXHAUSTED, reason, "", _RETRY_MS)


SLOT = web.RequestKey("slot", RequestSlot)
"""Under which a request keeps its slot, if it has one."""
