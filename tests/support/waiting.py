"""Waiting on conditions, and free ports."""

import asyncio
import socket
from collections.abc import Awaitable, Callable


async def until(
    condition: Callable[[], object | Awaitable[object]], what: str = "", seconds: float = 40.0
) -> None:
    """Return when `condition` holds; AssertionError naming `what` when it does not within `seconds`."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        assert loop.time() < ends_at, f"not within {seconds:g} s: {what or condition}"
        await asyncio.sleep(0.02)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
