"""A queue in which callers take turns, however many items each has."""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

Key = tuple[Hashable, Hashable]
"""Caller and lane: callers take turns, and the lanes of a caller take turns."""


class FairQueue(Generic[T]):
    """Each key's items in order. `pop` takes one of each caller in turn, and of a caller one of each lane.

    A caller with 16,000 items delays another caller's single item by one item. All steps take constant time.
    """

    def __init__(self) -> None:
        self._callers: dict[Hashable, _Lanes[T]] = {}
        self._turns: deque[_Lanes[T]] = deque()

    def push(self, key: Key, item: T) -> None:
        """Put an item behind those of its key."""
        caller, lane = key
        lanes = self._callers.get(caller)
        if lanes is None:
            lanes = self._callers[caller] = _Lanes(caller)
            self._turns.append(lanes)
        lanes.push(lane, item)

    def peek(self) -> T:
        """What `pop` will give. Raises IndexError when the queue is empty."""
        return self._turns[0].peek()

    def pop(self) -> T:
        """The next item; its caller goes to the end. Raises IndexError when the queue is empty."""
        lanes = self._turns.popleft()
        item = lanes.pop()
        if lanes.items:
            self._turns.append(lanes)
        else:
            del self._callers[lanes.caller]
        return item


class _Lanes(Generic[T]):
    """The lanes of one caller."""

    __slots__ = ("caller", "items", "turns")

    def __init__(self, caller: Hashable) -> None:
        self.caller = caller
        self.items: dict[Hashable, deque[T]] = {}
        self.turns: deque[Hashable] = deque()

    def push(self, lane: Hashable, item: T) -> None:
        waiting = self.items.get(lane)
        if waiting is None:
            self.items[lane] = deque((item,))
            self.turns.append(lane)
        else:
            waiting.append(item)

    def peek(self) -> T:
        return self.items[self.turns[0]][0]

    def pop(self) -> T:
        lane = self.turns.popleft()
        waiting = self.items[lane]
        item = waiting.popleft()
        if waiting:
            self.turns.append(lane)
        else:
            del self.items[lane]
        return item
