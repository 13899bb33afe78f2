"""Room for what is in memory at a time, in bytes; who finds none waits in turn."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """`await take(size)`, then `give(size)` once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def most(self) -> int:
        """Bytes that there are in all."""
        return self._most

    @property
    def used(self) -> int:
        """Bytes taken now."""
        return self._most - self._free

    @property
    def is_full(self) -> bool:
        """True when the next to ask has to wait."""
        return self.lacks(1)

    def lacks(self, size: int) -> bool:
        """True when who asks for that much has to wait."""
        return bool(self._waiting) or min(size, self._most) > self._free

    def try_take(self, size: int) -> bool:
        """Take it when there is room now; False when who asks has to wait."""
        if self.lacks(size):
            return False
        self._free -= min(size, self._most)
        return True

    async def take(self, size: int) -> None:
        """Return when there is room, in the order of asking. Larger than all of it counts as all."""
        if self.try_take(size):
            return
        size = min(size, self._most)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            else:
                self._waiting.remove((size, turn))
                self._next()
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._free += min(size, self._most)
        self._next()

    def _next(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self._free):
            if self._waiting[0][1].cancelled():
                return  # its owner is about to take it out, and calls again
            size, turn = self._waiting.popleft()
            self._free -= size
            turn.set_result(None)


class Share:
    """A caller's part of what all share: it waits for its own first, and so holds up nobody."""

    def __init__(self, own: Room, total: Room) -> None:
        self.own = own
        self._total = total
        self.most = min(own.most, total.most)
        """Larger than this counts as this."""

    def lacks(self, size: int) -> bool:
        """True when who asks for that much has to wait."""
        return self.own.lacks(size) or self._total.lacks(size)

    def try_take(self, size: int) -> bool:
        """Take it when there is room in both now; False when who asks has to wait."""
        if self.lacks(size):
            return False
        size = min(size, self.most)
        return self.own.try_take(size) and self._total.try_take(size)

    async def hold(self, size: int) -> Held:
        """As `take`; what was taken is given back in parts."""
        await self.take(size)
        return Held(self, size)

    async def take(self, size: int) -> None:
        """Return when there is room in both."""
        size = min(size, self.most)
        await self.own.take(size)
        try:
            await self._total.take(size)
        except BaseException:
            self.own.give(size)
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        size = min(size, self.most)
        self.own.give(size)
        self._total.give(size)


class Held:
    """What one message has of a share from its arrival on, for its parts and what is around them."""

    def __init__(self, share: Share, size: int) -> None:
        self._share = share
        self._left = self._rest = min(size, share.most)

    def keep(self, size: int) -> None:
        """A part is needed for longer than the message: it is given back by itself."""
        self._rest -= size

    def give(self, size: int) -> None:
        """Give a part back that was kept."""
        size = max(0, min(size, self._left))
        self._left -= size
        self._share.give(size)

    def give_rest(self) -> None:
        """Give back all that was not kept."""
        self.give(self._rest)
        self._rest = 0
