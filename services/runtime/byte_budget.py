"""Limits the bytes in memory. A caller that finds too few left waits in turn, or is refused at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError

_RETRY_MS = 500


class ByteBudget:
    """Take some, and give as much back once. A request for more than the whole budget counts as the whole.

    A window of submissions is counted in the same way.

    most    bytes in all
    within  the budget that all callers share, of which this is one caller's part. A caller waits for its own
            part first, and so does not stop others
    """

    def __init__(self, most: int, within: ByteBudget | None = None) -> None:
        self._within = within
        self._most = most if within is None else min(most, within.most)
        self._free = self._most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def most(self) -> int:
        """Bytes in all."""
        return self._most

    @property
    def used(self) -> int:
        """Bytes taken now."""
        return self._most - self._free

    def lacks(self, size: int) -> bool:
        """True when a request for that much has to wait, here or for what all share."""
        return self.lacks_own(size) or (
            self._within is not None and self._within.lacks(min(size, self._most))
        )

    def lacks_own(self, size: int) -> bool:
        """True when a request for that much has to wait here."""
        return bool(self._waiting) or min(size, self._most) > self._free

    def try_take(self, size: int) -> bool:
        """Take it if it is free now; False: the request would have to wait."""
        size = min(size, self._most)
        if self.lacks_own(size) or (self._within is not None and not self._within.try_take(size)):
            return False
        self._free -= size
        return True

    def take_rest(self, size: int) -> bool:
        """Take it, or what is left when that is less; False when nothing is left."""
        return self.try_take(min(size, max(1, self._free)))

    async def take(self, size: int) -> None:
        """Wait until it can be taken, in the order of asking."""
        size = min(size, self._most)
        await self._take_own(size)
        if self._within is not None:
            try:
                await self._within.take(size)
            except BaseException:
                self._give_own(size)
                raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        size = min(size, self._most)
        self._give_own(size)
        if self._within is not None:
            self._within.give(size)

    async def hold(self, size: int) -> Held:
        """As `take`; what was taken is given back in parts."""
        await self.take(size)
        return Held(self, size)

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take it while the block runs. Raises MeshError RESOURCE_EXHAUSTED when too little is free."""
        if not self.try_take(size):
            raise budget_is_used_up()
        try:
            yield
        finally:
            self.give(size)

    async def all_given_back(self) -> None:
        """Wait until everything is given back."""
        await self._take_own(self._most)
        self._give_own(self._most)

    async def _take_own(self, size: int) -> None:
        if not self.lacks_own(size):
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_own(size)
            else:
                self._waiting.remove((size, turn))
                self._next()
            raise

    def _give_own(self, size: int) -> None:
        self._free += size
        self._next()

    def _next(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            if self._waiting[0][1].cancelled():
                return  # the waiting task will remove it and call again
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)


class Held:
    """The bytes of one message, from its arrival on. Its parts are given back one by one."""

    def __init__(self, budget: ByteBudget, size: int) -> None:
        self._budget = budget
        self._left = self._rest = min(size, budget.most)

    def keep(self, size: int) -> None:
        """A part is needed for longer than the message: it is given back by itself."""
        self._rest -= size

    def give(self, size: int) -> None:
        """Give a part back that was kept."""
        size = max(0, min(size, self._left))
        self._left -= size
        self._budget.give(size)

    def give_rest(self) -> None:
        """Give back all that was not kept."""
        self.give(self._rest)
        self._rest = 0


def budget_is_used_up() -> MeshError:
    """The error for a caller that does not wait, or has waited too long."""
    return MeshError.resource_exhausted(
        "too much is under way; send the same again after the delay",
        retry_after_ms=_RETRY_MS,
        outcome=code_pb2.OUTCOME_NOT_DONE,
    )
