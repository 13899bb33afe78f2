"""Waiting on conditions, and free ports."""

import asyncio
import contextlib
import itertools
import random
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


# Below the ports that the kernel gives to outgoing connections (Linux: from 32768): one of those may be taken
# by the tests' own before whoever asked for it binds it. The laptop networks' ports begin above.
_FIRST_PORT, _PORTS = 10_000, 7_000
_turns = itertools.count(random.randrange(_PORTS))  # noqa: S311 - not a secret


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now; each call gives another."""
    for turn in itertools.islice(_turns, _PORTS):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", _FIRST_PORT + turn % _PORTS))
            return int(probe.getsockname()[1])
    raise AssertionError(f"no port from {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1} is free")
