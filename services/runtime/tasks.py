"""Ending background tasks, and telling whoever waits."""

import asyncio
from typing import Any, TypeVar

R = TypeVar("R")


async def end(task: asyncio.Task[Any], *, again_after_seconds: float = 5.0) -> None:
    """Cancel a task and return when it has ended; its exception stays with it.

    Cancelled again when it has not ended after a while: in Python 3.11 `asyncio.wait_for` loses a
    cancellation that comes together with its inner result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_after_seconds)


def settle(answer: "asyncio.Future[R]", result: R | Exception) -> None:
    """Give a future its result or its exception, unless whoever waited has gone away."""
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
