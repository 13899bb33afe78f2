"""A queue in which callers take turns, however many items each has and however large they are."""

from collections import deque
from collections.abc import Callable, Hashable
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

Key = tuple[Hashable, Hashable]
"""Caller and lane: callers take turns, and the lanes of a caller take turns."""


class FairQueue(Generic[T]):
    """Each key's items in order. Of the weight that `pop` takes each caller that has items gets the same
    share, and so does each lane of a caller's (start-time fair queueing, Goyal and others 1996).

    A caller with 16,000 items delays another caller's single item by one item. An item that weighs as much as
    128 comes as seldom as 128: also from a caller who has no more than one at a time. A step takes time with
    the logarithm of the callers.
    """

    def __init__(self) -> None:
        self._callers: _Turns[_Lanes[T]] = _Turns()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, key: Key, item: T, weight: int = 1) -> None:
        """Put an item behind those of its key."""
        caller, lane = key
        self._callers.of(caller, _Lanes).push(lane, item, weight)
        self._count += 1

    def peek(self) -> T:
        """What `pop` will give. Raises IndexError when the queue is empty."""
        return self._callers.first().peek()

    def pop(self) -> T:
        """The next item. Raises IndexError when the queue is empty."""
        item, weight = self._callers.first().pop()
        self._callers.took(weight)
        self._count -= 1
        return item


class _Queue(Protocol):
    def __len__(self) -> int: ...


Q = TypeVar("Q", bound=_Queue)


class _Turns(Generic[Q]):
    """Queues by name. First is the one that was given least since it came.

    One that is empty stays until its turn: who comes back before that goes on owing what it took.
    """

    __slots__ = ("_named", "_numbers", "_order", "_reached")

    def __init__(self) -> None:
        self._named: dict[Hashable, Q] = {}
        self._order: list[tuple[int, int, Hashable]] = []
        self._numbers = count()
        self._reached = 0

    def of(self, name: Hashable, make: Callable[[], Q]) -> Q:
        """That of the name; a new one has been given as much as the one whose turn it was last."""
        queue = self._named.get(name)
        if queue is None:
            queue = self._named[name] = make()
            heappush(self._order, (self._reached, next(self._numbers), name))
        return queue

    def first(self) -> Q:
        """The one whose turn it is. Raises IndexError when all are empty."""
        while True:
            self._reached, _, name = self._order[0]
            queue = self._named[name]
            if len(queue):
                return queue
            heappop(self._order)
            del self._named[name]

    def took(self, weight: int) -> None:
        """So much was taken from the first."""
        given, _, name = self._order[0]
        heapreplace(self._order, (given + weight, next(self._numbers), name))


class _Lanes(Generic[T]):
    """The lanes of one caller."""

    __slots__ = ("_count", "_lanes")

    def __init__(self) -> None:
        self._lanes: _Turns[deque[tuple[T, int]]] = _Turns()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, lane: Hashable, item: T, weight: int) -> None:
        self._lanes.of(lane, deque).append((item, weight))
        self._count += 1

    def peek(self) -> T:
        return self._lanes.first()[0][0]

    def pop(self) -> tuple[T, int]:
        item, weight = self._lanes.first().popleft()
        self._lanes.took(weight)
        self._count -= 1
        return item, weight
