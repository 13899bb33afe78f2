"""What has come meanwhile is handed over at once, and nothing is lost at the end."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.ledger.projection.read_ahead import gathered
from tests.support.waiting import until


class Source:
    """Gives numbers, fails when it is told to, and remembers what it gave."""

    def __init__(self, count: int, failure: Exception | None = None) -> None:
        self.count, self.failure = count, failure
        self.given: list[int] = []

    async def numbers(self) -> AsyncGenerator[int]:
        for number in range(self.count):
            self.given.append(number)
            yield number
        if self.failure is not None:
            raise self.failure


async def test_all_come_in_order_and_then_the_end() -> None:
    got = [number async for some in gathered(Source(10).numbers(), 3) for number in some]

    assert got == list(range(10))


async def test_what_comes_while_the_reader_is_busy_comes_together_and_no_more_than_told() -> None:
    source = Source(10)
    sizes: list[int] = []
    async for some in gathered(source.numbers(), 4):
        sizes.append(len(some))
        ahead = min(10, sum(sizes) + 4)
        await until(lambda ahead=ahead: len(source.given) == ahead)

    assert sizes == [4, 4, 2]


async def test_a_failure_comes_after_everything_before_it() -> None:
    waiting = gathered(Source(3, RuntimeError("broken")).numbers(), 10)

    assert await anext(waiting) == [0, 1, 2]
    with pytest.raises(RuntimeError, match="broken"):
        await anext(waiting)


async def test_one_who_leaves_early_leaves_no_reader_behind() -> None:
    before = asyncio.all_tasks()
    waiting = gathered(Source(100).numbers(), 4)
    await anext(waiting)
    await waiting.aclose()

    assert asyncio.all_tasks() == before
