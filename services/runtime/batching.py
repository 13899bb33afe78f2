"""Micro-batches: many callers, few calls. Bounded in count, bytes, waiting and queue."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Generic, TypeVar

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1 import code_pb2
from services.runtime import telemetry, tracing
from services.runtime.errors import MeshError, guarded

T = TypeVar("T")
R = TypeVar("R")

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 400, 1_000)
_MOST_LINKS = 32
_SHORTEST_RETRY_MS = 50
_LONGEST_RETRY_MS = 5_000


@dataclass(eq=False, slots=True)
class _Waiting(Generic[T, R]):
    item: T
    size: int
    since: float
    answer: asyncio.Future[R]
    span: SpanContext | None


class _Series:
    """Of one queue of a service, told from its others by the label `queue`."""

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
    """Gathers items and hands them to `process` in batches, oldest first.

    process         gives one result for each item, in order; an exception in a place is that item's
                    own, one that is raised is everybody's of the batch. It sees neither the deadline
                    nor the metadata of the RPCs whose items it carries
    max_count, max_bytes  of a batch; sizes are `size_of(item)`
    linger_seconds  how long an item may wait for company for each batch that is in flight. When none is,
                    a batch leaves at once: idle is quick, busy is full, and in between the distance
                    between batches settles by itself
    spacing_seconds, most_spacing_seconds  a batch leaves no sooner after the last one than this for each item
                    that the last one had, and at most that. Above one item in `spacing_seconds` each batch is
                    larger than the last until the distance is `most_spacing_seconds`; below, there is none
    enough          items that are worth a batch of their own: they do not wait for company
    max_queue       items that may wait: more are refused with RESOURCE_EXHAUSTED
    max_in_flight   batches being processed at a time
    name            the `queue` label of the metrics `cbmdhi_<service>_queue_…` and `…_batch_items`

    `async with MicroBatcher(...)`; leaving it drains: what waits is still processed.
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
        self._max_queue = max_queue
        self._size_of = size_of
        self._max_in_flight = max_in_flight
        self._name = name
        self._queue: deque[_Waiting[T, R]] = deque()
        self._queued_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.Handle | None = None
        self._closing = False
        self._seconds_per_batch = linger_seconds
        metrics = metrics or telemetry.Metrics("runtime")
        series = _Series(metrics, name)
        series.waiting.set_function(lambda: len(self._queue))
        series.age.set_function(self._oldest_seconds)
        self._series = series

    async def __aenter__(self) -> "MicroBatcher[T, R]":
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def submit(self, item: T) -> R:
        """The item's result. Raises what `enqueue` raises, or the item's own exception.

        Cancelled while waiting, the item leaves the queue; cancelled in flight, its result is dropped.
        """
        return await self.enqueue(item)

    def enqueue(self, item: T, span: SpanContext | None = None) -> "asyncio.Future[R]":
        """The future of the item's result; it has exceptions as `submit` raises them. Cancelled before its
        batch leaves, the item stays behind.

        span  sampled, what the batch's span links to; by default the current one, when that is sampled

        Raises MeshError TOO_LARGE (alone over max_bytes), RESOURCE_EXHAUSTED (queue full; with a delay),
        UNAVAILABLE (closing).
        """
        size = self._size_of(item)
        if size > self._max_bytes:
            raise MeshError(
                code_pb2.CODE_TOO_LARGE, f"one item may have {self._max_bytes} bytes; send less at once"
            )
        if self._closing:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "the service is shutting down; send again")
        if len(self._queue) >= self._max_queue:
            self._drop_cancelled()
        if len(self._queue) >= self._max_queue:
            self._series.refused.inc()
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                f"the queue of {self._max_queue} is full; send again after the delay",
                retry_after_ms=self._retry_after_ms(),
            )
        loop = asyncio.get_running_loop()
        waiting: _Waiting[T, R] = _Waiting(
            item, size, loop.time(), loop.create_future(), span or tracing.sampled()
        )
        self._queue.append(waiting)
        self._queued_bytes += size
        # Not at once: what is submitted in the same turn of the loop leaves together.
        self._set_timer(self._due_at())
        return waiting.answer

    async def close(self) -> None:
        """Take nothing more, process what waits, and return when all is done."""
        self._closing = True
        self._send_what_is_due()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _oldest_seconds(self) -> float:
        # Asked in another thread, which may find the queue emptied meanwhile.
        try:
            return max(0.0, monotonic() - self._queue[0].since)
        except IndexError:
            return 0.0

    def _due_at(self) -> float:
        """Loop time at which the oldest item shall leave."""
        full = len(self._queue) >= self._enough or self._queued_bytes >= self._max_bytes
        if full or self._closing:
            return 0.0
        if not self._tasks:
            return self._next_at
        return max(self._queue[0].since + self._linger_seconds * len(self._tasks), self._next_at)

    def _send_what_is_due(self) -> None:
        self._clear_timers()
        now = asyncio.get_running_loop().time()
        while self._queue and len(self._tasks) < self._max_in_flight:
            due_at = self._due_at()
            if due_at > now:
                self._set_timer(due_at)
                return
            batch = self._take()
            if not batch:
                continue
            self._next_at = now + min(self._spacing_seconds * len(batch), self._most_spacing_seconds)
            # A context of its own: a batch belongs to no single caller, and to no one's deadline.
            task = asyncio.create_task(self._run(batch), context=contextvars.Context(), name=self._name)
            self._tasks.add(task)
            task.add_done_callback(partial(self._finished, batch))

    def _take(self) -> list[_Waiting[T, R]]:
        batch: list[_Waiting[T, R]] = []
        total = 0
        while self._queue and len(batch) < self._max_count and total + self._queue[0].size <= self._max_bytes:
            waiting = self._queue.popleft()
            self._queued_bytes -= waiting.size
            if not waiting.answer.cancelled():
                total += waiting.size
                batch.append(waiting)
        return batch

    def _drop_cancelled(self) -> None:
        left = [waiting for waiting in self._queue if not waiting.answer.cancelled()]
        self._queue = deque(left)
        self._queued_bytes = sum(waiting.size for waiting in left)

    async def _run(self, batch: list[_Waiting[T, R]]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        self._series.batch.observe(len(batch))
        self._series.wait.observe(started - batch[0].since)
        # Many items of one call are one link.
        spans = {waiting.span.span_id: waiting.span for waiting in batch if waiting.span is not None}
        with tracing.span(self._name, links=[*spans.values()][:_MOST_LINKS]) as span:
            span.set(count=len(batch))
            await self._answer(batch, span)
        self._seconds_per_batch += 0.2 * (loop.time() - started - self._seconds_per_batch)

    def _finished(self, batch: list[_Waiting[T, R]], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        for waiting in batch:
            if not waiting.answer.done():  # the task was cancelled: the process ends
                why = MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "the service was stopped; send the same again")
                _settle(waiting.answer, why)
        self._send_what_is_due()

    async def _answer(self, batch: list[_Waiting[T, R]], span: tracing.span) -> None:
        try:
            results = await guarded(self._results([waiting.item for waiting in batch]), "batch.crashed")
        except MeshError as err:
            span.fail(err.code)
            for waiting in batch:
                _settle(waiting.answer, MeshError(err.code, err.reason, err.path, err.retry_after_ms))
        else:
            for waiting, result in zip(batch, results, strict=True):
                if isinstance(result, MeshError):
                    span.fail(result.code)
                _settle(waiting.answer, result)

    async def _results(self, items: list[T]) -> list[R | Exception]:
        results = await self._process(items)
        if len(results) != len(items):
            raise ValueError(f"process gave {len(results)} results for {len(items)} items")
        return results

    def _retry_after_ms(self) -> int:
        batches = len(self._queue) / self._max_count / self._max_in_flight
        return int(min(_LONGEST_RETRY_MS, max(_SHORTEST_RETRY_MS, 1000 * self._seconds_per_batch * batches)))

    def _set_timer(self, due_at: float) -> None:
        loop = asyncio.get_running_loop()
        if due_at <= loop.time():
            # One that is set already stays: put off by every submission, it would never come.
            self._soon = self._soon or loop.call_soon(self._send_what_is_due)
        elif self._later is None:
            self._later = loop.call_at(due_at, self._send_what_is_due)

    def _clear_timers(self) -> None:
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._soon = self._later = None


def _settle(answer: "asyncio.Future[R]", result: R | Exception) -> None:
    if answer.done():  # its caller went away
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
