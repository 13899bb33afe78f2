"""Clocks that are apart are noticed from both sides; a service that says no time is no reason to stop."""

import time

import pytest

from services.runtime import clock
from tests.unit.services.runtime.net import Start


@pytest.mark.parametrize(
    ("ahead", "how"), [(1200.0, "20.0 minutes ahead of"), (-1200.0, "20.0 minutes behind")]
)
async def test_a_clock_that_is_20_minutes_off_is_said_with_the_other_service(
    start: Start, ahead: float, how: str
) -> None:
    net = await start()

    problem = await clock.agrees_with({"notify": net.channel()}, lambda: time.time() + ahead)()

    assert problem is not None
    assert how in problem
    assert "notify" in problem
    assert "timedatectl" in problem


@pytest.mark.parametrize("ahead", [0.0, 50.0, -50.0])
async def test_less_than_a_minute_is_no_problem(start: Start, ahead: float) -> None:
    net = await start()

    assert await clock.agrees_with({"notify": net.channel()}, lambda: time.time() + ahead)() is None


async def test_a_service_that_does_not_answer_is_left_to_its_own_check(start: Start) -> None:
    net = await start()
    channel = net.channel()
    await net.server.stop(0)

    assert await clock.agrees_with({"notify": channel}, lambda: time.time() + 1200)() is None


async def test_a_clock_that_agreed_and_is_set_wrong_afterwards_is_noticed_ten_seconds_later(
    start: Start,
) -> None:
    net = await start()
    ahead, passed = 0.0, 0.0
    check = clock.agrees_with({"notify": net.channel()}, lambda: time.time() + ahead, lambda: passed)
    assert await check() is None

    ahead, passed = 1200.0, 9.0
    assert await check() is None, "it agreed nine seconds ago and was asked again"

    passed = 11.0
    assert "20.0 minutes ahead of that of notify" in (await check() or "")
    passed = 12.0
    assert await check() is not None, "a clock that is off was taken to agree"
    ahead = 0.0
    assert await check() is None, "a clock that was set right is seen at the next check"


async def test_a_service_that_did_not_answer_is_asked_again_at_the_next_check(start: Start) -> None:
    net, later = await start(), await start()
    channels = {"notify": net.channel()}
    await net.server.stop(0)
    check = clock.agrees_with(channels, lambda: time.time() + 1200, lambda: 0.0)
    assert await check() is None

    channels["notify"] = later.channel()

    assert await check() is not None
