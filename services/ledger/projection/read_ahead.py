"""Reads ahead: gives all items that came meanwhile as one list."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import TypeVar

T = TypeVar("T")


async def gathered(source: AsyncGenerator[T], most: int) -> AsyncGenerator[list[T]]:
    """Lists of what `source` gave since the last one, in order: at least one item, at most `most`.

    Reads on while whoever iterates is busy, at most `most` ahead. Ends or raises as `source` does, after
    everything that came before. `source` stays the caller's to close.
    """
    waiting: deque[T] = deque()
    arrived, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async for item in source:
            waiting.append(item)
            arrived.set()
            if len(waiting) >= most:
                room.clear()
                await room.wait()

    reader = asyncio.create_task(read(), name="gathering")
    reader.add_done_callback(lambda _: arrived.set())
    try:
        while waiting or not reader.done():
            if not waiting:
                arrived.clear()
                await arrived.wait()
                continue
            items = [*waiting]
            waiting.clear()
            room.set()
            yield items
        await reader
    finally:
        reader.cancel()
        await asyncio.wait([reader])
