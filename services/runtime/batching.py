"""Micro-batches: many callers, few calls. Bounded in count, bytes, waiting and queue; fair to each caller."""

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from time import monotonic
from typing import Generic, TypeVar

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1 import code_pb2
from services.runtime import telemetry, tracing
from services.runtime.errors import MeshError, copied, guarded
from services.runtime.fair_queue import Key
from services.runtime.tasks import settle
from services.runtime.waiting_room import Waiting, WaitingRoom

T = TypeVar("T")
R = TypeVar("R")

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 400, 1_000)
_MOST_LINKS = 32
_SHORTEST_RETRY_MS = 50
_LONGEST_RETRY_MS = 5_000


class _Series:
    """Metrics of one queue. The label `queue` tells a service's queues apart."""

    def __init__(self, metrics: telemetry.Metrics, queue: str) -> None:
        of = ("queue",)
        self.waiting = metrics.gauge("queue", "items", "Items that wait for a batch", of).labels(queue)
        self.age = metrics.gauge("queue_age", "seconds", "Time that the oldest item waits", of).labels(queue)
        self.wait = metrics.histogram(
            "queue_wait", "seconds", "Time that the oldest item of a batch had waited for it", of
        ).labels(queue)
        self.batch = metrics.histogram("batch", "items", "Items in a batch", of, _SIZES).labels(queue)
        self.refused = metrics.counter("queue_refused", "Items refused: the queue was full", of).labels(queue)


class MicroBatcher(Generic[T, R]):
    """Gathers items and hands them to `process` in batches, each caller's oldest first and callers in turn.

    process         gives one result for each item, in order. An exception in a place is the result of that
                    item; a raised one is the result of the whole batch. It sees neither the deadline
                    nor the metadata of the RPCs whose items it has
    max_count, max_bytes  limits of a batch; sizes are `size_of(item)`
    linger_seconds  how long an item may wait to share a batch with others, for each batch that is in flight.
                    When none is, a batch leaves at once. So an idle service answers quickly, a busy one sends
                    full batches, and in between the time from batch to batch adjusts itself
    spacing_seconds, most_spacing_seconds  a batch leaves no sooner after the last one than this for each item
                    that the last one had, and at most that. Above one item in `spacing_seconds` each batch is
                    larger than the last until the distance is `most_spacing_seconds`; below, there is none
    enough          number of items that do not wait for others
    max_queue       most weight that waits: more is refused with RESOURCE_EXHAUSTED
    max_per_caller  most weight of one caller that waits; by default max_queue
    max_per_key     most weight of one key that waits; by default max_per_caller
    key_of          caller and lane of an item; see FairQueue
    weight_of       for how many an item counts in turns and in what may wait
    max_in_flight   batches being processed at a time
    name            the `queue` label of the metrics `cbmdhi_<service>_queue_…` and `…_batch_items`

    `async with MicroBatcher(...)`; leaving it processes what waits.
    """

    def __init__(
        self,
        process: Callable[[list[T]], Awaitable[list[R | Exception]]],
        *,
        max_count: int,
        max_bytes: int,
        linger_seconds: float,
        max_queue: int,
        size_of: Callable[[T], int],
        max_in_flight: int,
        max_per_caller: int | None = None,
        max_per_key: int | None = None,
        key_of: Callable[[T], Key] = lambda _: ("", ""),
        weight_of: Callable[[T], int] = lambda _: 1,
        enough: int | None = None,
        spacing_seconds: float = 0.0,
        most_spacing_seconds: float = 0.0,
        metrics: telemetry.Metrics | None = None,
        name: str = "batch",
    ) -> None:
        self._process = process
        self._max_count = max_count
        self._enough = min(enough or max_count, max_count)
        self._max_bytes = max_bytes
        self._linger_seconds = linger_seconds
        self._spacing_seconds = spacing_seconds
        self._most_spacing_seconds = most_spacing_seconds
        self._next_at = 0.0
        self._size_of = size_of
        self._max_in_flight = max_in_flight
        self._name = name
        self._room: WaitingRoom[T, R] = WaitingRoom(max_queue, max_per_caller, max_per_key)
        self._key_of = key_of
        self._weight_of = weight_of
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.Handle | None = None
        self._closing = False
        self._seconds_per_batch = linger_seconds
        metrics = metrics or telemetry.Metrics("runtime")
        series = _Series(metrics, name)
        series.waiting.set_function(lambda: len(self._room))
        series.age.set_function(self._oldest_seconds)
        self._series = series

    async def __aenter__(self) -> "MicroBatcher[T, R]":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def submit(self, item: T) -> R:
        """The item's result. Raises what `enqueue` raises, or the item's own exception.

        Cancelled while waiting, the item leaves the queue; cancelled in flight, its result is dropped.
        """
        return await self.enqueue(item)

    def enqueue(
        self, item: T, span: SpanContext | None = None, ends_at: float | None = None
    ) -> "Waiting[T, R]":
        """The future of the item's result; it has exceptions as `submit` raises them.

        span     a sampled span that the batch's span links to; by default the current one, if sampled
        ends_at  loop time at which its caller gives up. If not taken by then, it gets DEADLINE_EXCEEDED

        Raises MeshError TOO_LARGE (alone over max_bytes), RESOURCE_EXHAUSTED (queue full; with a delay),
        UNAVAILABLE (closing). Nothing was done then, nor for what was not taken.
        """
        size = self._size_of(item)
        if size > self._max_bytes:
            raise _not_done(
                code_pb2.CODE_TOO_LARGE, f"one item may have {self._max_bytes} bytes; send less at once"
            )
        if self._closing:
            raise _not_done(code_pb2.CODE_UNAVAILABLE, "the service is shutting down; send again")
        key, weight = self._key_of(item), self._weight_of(item)
        self.check_room(key[0], weight)
        if problem := self._room.lacks_key(key, weight):
            raise self._no_room(problem)
        loop = asyncio.get_running_loop()
        waiting: Waiting[T, R] = Waiting(loop=loop)
        waiting.item, waiting.size, waiting.weight, waiting.key = item, size, weight, key
        waiting.since, waiting.ends_at = loop.time(), math.inf if ends_at is None else ends_at
        waiting.span = span or tracing.sampled()
        self._room.add(waiting)
        # Not at once, so that items of the same turn of the loop share a batch.
        self._set_timer(self._due_at())
        return waiting

    def check_room(self, caller: Hashable, count: int = 1) -> None:
        """Raises MeshError RESOURCE_EXHAUSTED, with a delay, unless so many of the caller's may wait."""
        if problem := self._room.lacks(caller, count):
            raise self._no_room(problem)

    def _no_room(self, reason: str) -> MeshError:
        self._series.refused.inc()
        return _not_done(code_pb2.CODE_RESOURCE_EXHAUSTED, reason, self._retry_after_ms())

    async def close(self) -> None:
        """Refuse new items, process waiting ones, and return when all are done."""
        self._closing = True
        self._send_what_is_due()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _oldest_seconds(self) -> float:
        # Called in another thread, so the queue may change meanwhile.
        try:
            return max(0.0, monotonic() - self._room.oldest.since)
        except (StopIteration, RuntimeError):
            return 0.0

    def _due_at(self) -> float:
        """Loop time at which the oldest item must be sent."""
        full = len(self._room) >= self._enough or self._room.bytes >= self._max_bytes
        if full or self._closing:
            return 0.0
        if not self._tasks:
            return self._next_at
        return max(self._room.oldest.since + self._linger_seconds * len(self._tasks), self._next_at)

    def _send_what_is_due(self) -> None:
        self._clear_timers()
        now = asyncio.get_running_loop().time()
        while self._room and len(self._tasks) < self._max_in_flight:
            due_at = self._due_at()
            if due_at > now:
                self._set_timer(due_at)
                return
            batch = self._room.take(now, self._max_count, self._max_bytes)
            if not batch:
                continue
            self._next_at = now + min(self._spacing_seconds * len(batch), self._most_spacing_seconds)
            # A context of its own: a batch has no single caller and no caller's deadline.
            task = asyncio.create_task(self._run(batch), context=contextvars.Context(), name=self._name)
            self._tasks.add(task)
            task.add_done_callback(partial(self._finished, batch))

    async def _run(self, batch: list[Waiting[T, R]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._series.batch.observe(len(batch))
        self._series.wait.observe(started - min(waiting.since for waiting in batch))
        # Items of one call share a link.
        spans = {waiting.span.span_id: waiting.span for waiting in batch if waiting.span is not None}
        with tracing.span(self._name, links=[*spans.values()][:_MOST_LINKS]) as span:
            span.set(count=len(batch))
            await self._answer(batch, span)
        self._seconds_per_batch += 0.2 * (loop.time() - started - self._seconds_per_batch)

    def _finished(self, batch: list[Waiting[T, R]], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        for waiting in batch:
            if not waiting.done():  # the task was cancelled: the process ends
                why = MeshError.unknown_outcome(
                    "the service was stopped; send the same again", outcome=code_pb2.OUTCOME_UNKNOWN
                )
                settle(waiting, why)
        self._send_what_is_due()

    async def _answer(self, batch: list[Waiting[T, R]], span: tracing.span) -> None:
        try:
            results = await guarded(self._results([waiting.item for waiting in batch]), "batch.crashed")
        except MeshError as err:
            span.fail(err.code)
            for waiting in batch:
                settle(waiting, copied(err))
        else:
            for waiting, result in zip(batch, results, strict=True):
                if isinstance(result, MeshError):
                    span.fail(result.code)
                settle(waiting, result)

    async def _results(self, items: list[T]) -> list[R | Exception]:
        results = await self._process(items)
        if len(results) != len(items):
            raise ValueError(f"process gave {len(results)} results for {len(items)} items")
        return results

    def _retry_after_ms(self) -> int:
        batches = len(self._room) / self._max_count / self._max_in_flight
        return int(min(_LONGEST_RETRY_MS, max(_SHORTEST_RETRY_MS, 1000 * self._seconds_per_batch * batches)))

    def _set_timer(self, due_at: float) -> None:
        loop = asyncio.get_running_loop()
        if due_at <= loop.time():
            # A timer that is set stays: put off by every submission, it would never fire.
            self._soon = self._soon or loop.call_soon(self._send_what_is_due)
        elif self._later is None:
            self._later = loop.call_at(due_at, self._send_what_is_due)

    def _clear_timers(self) -> None:
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._soon = self._later = None


def _not_done(code: int, reason: str, retry_after_ms: int = 0) -> MeshError:
    return MeshError(code, reason, "", retry_after_ms, code_pb2.OUTCOME_NOT_DONE)
