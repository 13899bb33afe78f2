"""Clocks that are apart are noticed from both sides; a service that says no time is no reason to stop."""

import time

import pytest

from services.runtime import clock
from tests.unit.runtime.net import Start


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
