"""Ending background tasks."""

import asyncio
from typing import Any


async def end(task: asyncio.Task[Any], *, again_after_seconds: float = 5.0) -> None:
    """Cancel a task and return when it has ended; its exception stays with it.

    Cancelled again when it has not ended after a while: in Python 3.11 `asyncio.wait_for` loses a
    cancellation that comes together with its inner result.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=again_after_seconds)
