"""Bytes in memory at a time: in the order of asking, a part for each caller, and all of it given back."""

import asyncio

import pytest

from services.runtime.byte_budget import ByteBudget
from services.runtime.errors import MeshError, code_name
from services.runtime.tasks import end
from tests.support.waiting import until


async def test_bytes_are_had_in_the_order_of_asking_and_come_back_when_the_asker_goes_away() -> None:
    budget = ByteBudget(10)
    await budget.take(8)
    large = asyncio.ensure_future(budget.take(6))
    small = asyncio.ensure_future(budget.take(1))
    await until(lambda: budget.lacks(1), "somebody waits")
    assert not small.done()

    large.cancel()
    await asyncio.wait([large, small], timeout=5)
    assert small.done()
    assert large.cancelled()
    budget.give(1)
    budget.give(8)
    await asyncio.wait_for(budget.take(99), 5)  # more than there is counts as all of it
    assert budget.used == 10


async def test_a_caller_that_waits_for_its_own_part_does_not_stop_another() -> None:
    total = ByteBudget(10)
    greedy, modest = ByteBudget(6, total), ByteBudget(6, total)
    await greedy.take(6)
    waiting = asyncio.create_task(greedy.take(1))
    await until(lambda: greedy.lacks(1), "it waits")

    assert modest.try_take(4)
    assert (total.used, waiting.done()) == (10, False)
    greedy.give(6)
    await waiting
    assert (greedy.used, modest.used, total.used) == (1, 4, 5)


async def test_a_caller_that_goes_away_while_all_is_used_keeps_nothing_of_its_part() -> None:
    total = ByteBudget(10)
    await total.take(8)
    own = ByteBudget(6, total)
    waiting = asyncio.create_task(own.take(4))
    await until(lambda: own.used == 4, "it has its own part, and waits for the rest")
    assert not own.lacks_own(2)
    assert own.lacks(1)

    await end(waiting)

    assert (own.used, total.used) == (0, 8)
    assert own.try_take(2)


async def test_a_message_larger_than_its_part_is_given_back_in_parts_and_never_more_than_it_took() -> None:
    total = ByteBudget(10)
    held = await ByteBudget(4, total).hold(9)
    held.keep(3)
    held.keep(5)
    assert total.used == 4

    held.give(3)
    held.give_rest()
    held.give(5)

    assert total.used == 0


def test_what_is_refused_at_once_takes_nothing_and_a_block_that_fails_gives_back() -> None:
    budget = ByteBudget(10)
    with budget.taken(7):
        with pytest.raises(MeshError) as refused, budget.taken(4):
            pass
        assert budget.used == 7
    assert (code_name(refused.value.code), refused.value.nothing_done) == ("RESOURCE_EXHAUSTED", True)
    assert refused.value.retry_after_ms > 0
    with pytest.raises(ValueError, match="ours"), budget.taken(7):
        raise ValueError("ours")
    assert budget.used == 0


def test_the_last_that_takes_the_rest_may_be_larger_than_it() -> None:
    budget = ByteBudget(10)

    assert [budget.take_rest(size) for size in (4, 9, 1)] == [True, True, False]


async def test_whoever_waits_for_the_end_goes_on_when_the_last_is_given_back() -> None:
    total = ByteBudget(10)
    await total.take(9)
    own = ByteBudget(3, total)
    assert own.try_take(1)
    ending = asyncio.create_task(own.all_given_back())
    await until(lambda: own.lacks(1), "it waits")
    own.give(1)

    await ending

    assert (own.used, total.used) == (0, 9)
