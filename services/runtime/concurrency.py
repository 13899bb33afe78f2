"""Several tasks at once (all or none, or each for itself), and work that leaves the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from services.runtime.errors import MeshError, guarded

K = TypeVar("K")
P = ParamSpec("P")
T = TypeVar("T")

_MIB = 1 << 20


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order; when one fails, the others are cancelled and awaited and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


async def outcomes(asked: Mapping[K, asyncio.Future[T]]) -> dict[K, T | MeshError]:
    """The result of each future, or its MeshError. Other exceptions are raised when all are done.

    When cancelled, it cancels the futures.
    """
    if not asked:
        return {}
    results = await asyncio.gather(*asked.values(), return_exceptions=True)
    found: dict[K, T | MeshError] = {}
    for key, result in zip(asked, results, strict=True):
        if isinstance(result, BaseException) and not isinstance(result, MeshError):
            raise result
        found[key] = result
    return found


async def each(
    wanted: Iterable[K], work: Callable[[K], Awaitable[T]], at_once: int
) -> dict[K, T | MeshError]:
    """`work` for each, in order, by `at_once` workers at most. A failed one gives a MeshError.

    An unexpected exception fails its item only. Work that does not wait costs no task of its own.
    """
    keys = list(wanted)
    left = iter(keys)
    found: dict[K, T | MeshError] = {}

    async def worker() -> None:
        for key in left:
            try:
                found[key] = await guarded(work(key), "item.crashed")
            except MeshError as err:
                found[key] = err

    if len(keys) == 1:
        await worker()
    else:
        await together(worker() for _ in range(min(at_once, len(keys))))
    return found


async def by_size(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args)` on `size` bytes: here up to 1 MiB, which takes a millisecond to hash; above that in
    a thread, so that the event loop does not wait for it."""
    if size <= _MIB:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
