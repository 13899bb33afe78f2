"""Waiting on a condition instead of sleeping for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError

T = TypeVar("T")


async def until(
    condition: Callable[[], Awaitable[T | None]],
    what: str,
    *,
    deadline_seconds: float = 20.0,
    every_seconds: float = 0.1,
) -> T:
    """Ask again and again until the answer is truthy. Raises MeshError DEADLINE_EXCEEDED, naming `what`."""
    ends = time.monotonic() + deadline_seconds
    while True:
        if found := await condition():
            return found
        if time.monotonic() > ends:
            raise MeshError(
                code_pb2.CODE_DEADLINE_EXCEEDED, f"waited {deadline_seconds:.0f} s in vain until {what}"
            )
        await asyncio.sleep(every_seconds)
