"""A member whose clock is off says so: by its own chaincode's refusal, or by the channel's minutes."""

import contextlib
from collections import deque

import grpc
import pytest

import fabric_gateway as fabric
from services.ledger.channel.clock import ChannelClock
from services.ledger.channel.epochs import Epochs
from services.ledger.metrics import LedgerMetrics
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import World

NOON = 1_790_000_040.0
MINUTE = int(NOON) // 60


class Machine:
    """A machine whose clock is `ahead` of everybody's, and looks at the channel."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self.true = NOON
        self.clock = ChannelClock(lambda: self.true + self.ahead, lambda: self.true - NOON)

    async def goes_on(self, minutes: int, *, told_after: float = 10.0, every: float = 10.0) -> str | None:
        """The others tell each minute some seconds into it; it looks every so often. What it says at last."""
        ends = self.true + 60 * minutes
        while self.true < ends:
            self.true += every
            self.clock.seen(int(self.true - told_after) // 60)
        return await self.clock.check()

    async def stands_still(self, minutes: int) -> str | None:
        newest = int(self.true) // 60
        for _ in range(6 * minutes):
            self.true += 10.0
            self.clock.seen(newest)
        return await self.clock.check()

    async def catches_up(self, minutes: int) -> str | None:
        """Its peer fetches what it missed, a minute of the channel a second."""
        newest = int(self.true) // 60 - minutes
        for minute in range(newest, newest + minutes - 1):
            self.true += 1.0
            self.clock.seen(minute)
        return await self.clock.check()


@pytest.mark.parametrize("ahead", [0.0, 50.0, -50.0])
async def test_a_clock_within_what_endorsers_bear_is_well(ahead: float) -> None:
    machine = Machine(ahead)
    assert await machine.goes_on(5) is None
    assert await machine.stands_still(30) is None
    assert await machine.goes_on(5) is None


async def test_a_member_three_minutes_ahead_of_a_channel_that_goes_on_says_so_and_is_well_once_set() -> None:
    """What was seen: a ledger 180 s ahead said that it was ready, and nothing that it sent was endorsed."""
    machine = Machine(180.0)
    said = await machine.goes_on(4)
    assert said is not None
    assert "3 minutes ahead of the channel's" in said
    assert "timedatectl set-ntp true" in said
    machine.ahead = 0.0
    assert await machine.goes_on(2) is None


async def test_a_member_behind_says_so_at_the_first_look() -> None:
    machine = Machine(-180.0)
    machine.clock.seen(MINUTE)
    assert "3 minutes behind the channel's" in (await machine.clock.check() or "")
    machine.ahead = 0.0
    machine.clock.seen(MINUTE)
    assert await machine.clock.check() is None


async def test_a_channel_that_stands_still_is_not_taken_for_a_clock_that_is_ahead() -> None:
    """Without a majority nobody tells the time; who can still open records must not be taken out for it."""
    machine = Machine(0.0)
    await machine.goes_on(3)
    assert await machine.stands_still(20) is None


async def test_a_peer_that_fetches_what_it_missed_is_not_either() -> None:
    assert await Machine(0.0).catches_up(40) is None


async def test_one_member_that_tells_a_minute_as_early_as_it_can_puts_nobody_out() -> None:
    machine = Machine(0.0)
    machine.clock.seen(MINUTE + 1)
    assert await machine.clock.check() is None


class Refusing(World):
    """The own chaincode answers what it is told to first."""

    def __init__(self, *said: str) -> None:
        super().__init__(clock=NOON)
        self.said = deque(said)

    async def query(self, query: bytes) -> bytes:
        if self.said:
            raise fabric.EvaluateError(grpc.StatusCode.UNKNOWN, self.said.popleft())
        return await super().query(query)


async def told(world: World, clock: ChannelClock) -> str | None:
    epochs = Epochs(world, LedgerMetrics(Metrics("ledger")), lambda: NOON, channel_clock=clock)
    with contextlib.suppress(fabric.EvaluateError):
        await epochs.ensure()
    return await clock.check()


async def test_the_own_chaincodes_refusal_of_the_time_is_said_until_it_takes_it() -> None:
    clock = ChannelClock(lambda: NOON)
    world = Refusing("CODE_UNAVAILABLE: clock: the transaction's time is too far from this member's clock")
    assert "off that of the own chaincode" in (await told(world, clock) or "")
    assert await told(world, clock) is None


@pytest.mark.parametrize("said", ["CODE_UNAVAILABLE: ledger: not read", "connection refused", "clock"])
async def test_another_refusal_says_nothing_of_clocks(said: str) -> None:
    assert await told(Refusing(said), ChannelClock(lambda: NOON)) is None
