"""What waits for a batch: bounded in all, of each caller and of each key, and taken in turns."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.fair_queue import FairQueue, Key

T = TypeVar("T")
R = TypeVar("R")

_MOST_CANCELLED = 1_000


class Waiting(asyncio.Future[R], Generic[T, R]):
    """An item in the queue, and the future of its result. Cancelled in time, it is not processed.

    taken    it is in a batch: only `process` knows its outcome from then on
    ends_at  loop time from which on it is not taken into a batch
    """

    # Set by `enqueue`, which makes thousands a second: no constructor arguments.
    __slots__ = ("ends_at", "give_up", "item", "key", "since", "size", "span", "taken", "weight")

    item: T
    size: int
    weight: int
    key: Key
    since: float
    ends_at: float
    span: SpanContext | None
    taken: bool
    give_up: "Callable[[Waiting[T, R]], None]"

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled and not self.taken:
            self.give_up(self)
        return cancelled


class WaitingRoom(Generic[T, R]):
    """Bounds are of weight, see `batching.MicroBatcher`."""

    def __init__(self, most: int, most_of_caller: int | None = None, most_of_key: int | None = None) -> None:
        self._most = most
        self._most_of_caller = min(most_of_caller or most, most)
        self._most_of_key = min(most_of_key or self._most_of_caller, self._most_of_caller)
        # Waiting items in order of arrival, and in order of turns. The second keeps cancelled ones.
        self._waiting: OrderedDict[Waiting[T, R], None] = OrderedDict()
        self._queue: FairQueue[Waiting[T, R]] = FairQueue()
        self._cancelled = 0
        self._weight = 0
        self._of: Counter[Hashable] = Counter()
        self._of_key: Counter[Key] = Counter()
        self.bytes = 0
        """Of all that waits."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest(self) -> Waiting[T, R]:
        """Raises StopIteration when nothing waits."""
        return next(iter(self._waiting))

    def lacks(self, caller: Hashable, weight: int) -> str:
        """Why no more of the caller's may wait; empty: they may."""
        if self._weight + weight > self._most:
            return f"the queue of {self._most} is full; send again after the delay"
        if self._of[caller] + weight > self._most_of_caller:
            return f"{self._most_of_caller} of the caller's wait already; send again after the delay"
        return ""

    def lacks_key(self, key: Key, weight: int) -> str:
        """Why no more of the key's may wait; empty: they may."""
        if self._of_key[key] + weight > self._most_of_key:
            return f"{self._most_of_key} of the same person's wait already; send again after the delay"
        return ""

    def add(self, waiting: Waiting[T, R]) -> None:
        """It waits from now on."""
        waiting.taken, waiting.give_up = False, self._give_up
        self._queue.push(waiting.key, waiting, waiting.weight)
        self._waiting[waiting] = None
        self.bytes += waiting.size
        self._weight += waiting.weight
        self._of[waiting.key[0]] += waiting.weight
        self._of_key[waiting.key] += waiting.weight

    def take(self, now: float, max_count: int, max_bytes: int) -> list[Waiting[T, R]]:
        """The next batch. What is too late is told so, and nothing was done of it."""
        batch: list[Waiting[T, R]] = []
        total = 0
        while self._waiting and len(batch) < max_count:
            waiting = self._queue.peek()
            if not waiting.done() and waiting.ends_at > now and total + waiting.size > max_bytes:
                break
            self._queue.pop()
            if waiting.done():
                self._cancelled -= 1
                continue
            self._leave(waiting)
            if waiting.ends_at <= now:
                waiting.set_exception(_too_late())
                continue
            # From here on `process` tells its outcome.
            waiting.taken = True
            total += waiting.size
            batch.append(waiting)
        return batch

    def _leave(self, waiting: Waiting[T, R]) -> None:
        """Count an item that does not wait any more."""
        del self._waiting[waiting]
        self.bytes -= waiting.size
        self._weight -= waiting.weight
        _less(self._of, waiting.key[0], waiting.weight)
        _less(self._of_key, waiting.key, waiting.weight)

    def _give_up(self, waiting: Waiting[T, R]) -> None:
        """Remove an item that was cancelled before its turn."""
        self._leave(waiting)
        self._cancelled += 1
        # Rebuilt seldom, so that the cost of each is the same however many wait.
        if self._cancelled > max(_MOST_CANCELLED, len(self._waiting)):
            self._queue, self._cancelled = FairQueue(), 0
            for left in self._waiting:
                self._queue.push(left.key, left, left.weight)


def _less(counts: "Counter[Any]", whose: Hashable, weight: int) -> None:
    counts[whose] -= weight
    if not counts[whose]:
        del counts[whose]


def _too_late() -> MeshError:
    return MeshError.deadline_exceeded(
        "the deadline passed while it waited for its turn, so nothing was done; send the same again",
        outcome=code_pb2.OUTCOME_NOT_DONE,
    )
