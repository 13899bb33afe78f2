"""Work on bytes: at once when they are few, in a thread when the loop would wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_MIB = 1 << 20


async def by_size(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(*args)` on `size` bytes: 1 MiB is hashed in about a millisecond, which a thread is not worth."""
    if size <= _MIB:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
