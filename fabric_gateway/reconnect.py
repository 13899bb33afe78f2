"""Streams that outlive their connection: opened again where they broke off."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import grpc

from .connection import status_of

Item = TypeVar("Item")
Position = TypeVar("Position")


def _nobody(_: grpc.StatusCode) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How to come back when the connection or the peer is gone.

    There is no last attempt: whoever iterates decides when to give up. `on_lost` is told each time.
    """

    first_delay_seconds: float = 0.1
    longest_delay_seconds: float = 3.0
    on_lost: Callable[[grpc.StatusCode], None] = _nobody


async def resumed(
    open_from: Callable[[Position], AsyncGenerator[Item]],
    position: Position,
    after: Callable[[Item], Position],
    reconnect: Reconnect,
) -> AsyncGenerator[Item]:
    """What `open_from` yields from `position` on, without end; each item once and in order.

    after  the position behind an item
    """
    delay = reconnect.first_delay_seconds
    while True:
        try:
            async with aclosing(open_from(position)) as stream:
                async for item in stream:
                    yield item
                    position, delay = after(item), reconnect.first_delay_seconds
            lost = grpc.StatusCode.UNAVAILABLE
        except grpc.aio.AioRpcError as exc:
            lost = status_of(exc)
        reconnect.on_lost(lost)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 — jitter, not a secret
        delay = min(delay * 2, reconnect.longest_delay_seconds)
