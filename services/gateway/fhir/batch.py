"""The entries of a FHIR batch, each by itself: what becomes of one says nothing about another.

Whatever ends a batch early (its deadline, a shutdown, a crash, a lost answer), each entry is answered with
what is certain about it: done, certainly not done, or unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from cbmdhi.command.v1 import code_pb2
from services.gateway.pipeline.submission import not_answered_in_time, shutting_down, too_late
from services.runtime.deadline import remaining_seconds
from services.runtime.errors import MeshError, guarded

T = TypeVar("T")
E = TypeVar("E")

# Entries that are on their way together.
_AT_ONCE = 32
# Kept of the request's deadline, and of a shutdown's, to send the answer.
_ANSWER_SECONDS = 0.25


async def each_by_itself(
    entries: Sequence[E],
    write: Callable[[E, Callable[[], None]], Awaitable[T]],
    stopping: asyncio.Event,
    drain_seconds: float,
) -> list[T | MeshError]:
    """What became of each entry, in order.

    write          gives what an entry came to or raises MeshError; it calls its second argument when it is
                   about to submit: before that nothing can be done
    stopping       set when the service shuts down: no entry is begun any more
    drain_seconds  how long a request may take after that
    """
    at_once = asyncio.Semaphore(_AT_ONCE)
    submitted: set[int] = set()

    async def one(index: int, entry: E) -> T:
        async with at_once:
            if stopping.is_set():
                raise shutting_down()
            return await guarded(write(entry, partial(submitted.add, index)), "entry.crashed")

    tasks = [asyncio.create_task(one(index, entry)) for index, entry in enumerate(entries)]
    try:
        await _all_or_cut(tasks, stopping, drain_seconds)
        return [_outcome(task, index in submitted) for index, task in enumerate(tasks)]
    finally:
        # What was submitted goes on without whoever waits for it.
        for task in tasks:
            task.cancel()


async def _all_or_cut(
    tasks: Sequence[asyncio.Task[T]], stopping: asyncio.Event, drain_seconds: float
) -> None:
    stop = asyncio.create_task(stopping.wait())
    every = asyncio.gather(*tasks, return_exceptions=True)
    try:
        await asyncio.wait({every, stop}, timeout=_left(), return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            await asyncio.wait({every}, timeout=_left(drain_seconds))
    finally:
        stop.cancel()


def _left(most: float | None = None) -> float | None:
    seconds = [one for one in (most, remaining_seconds()) if one is not None]
    return max(0.0, min(seconds) - _ANSWER_SECONDS) if seconds else None


def _outcome(task: asyncio.Task[T], submitted: bool) -> T | MeshError:
    if not task.done() or task.cancelled():
        return not_answered_in_time() if submitted else too_late()
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, MeshError):
        raise error
    certain = code_pb2.OUTCOME_UNKNOWN if submitted else code_pb2.OUTCOME_NOT_DONE
    error.outcome = error.outcome or certain
    return error
