"""The channel is told the time: by whoever is first, also after a while in which nobody did."""

import asyncio
import contextlib
from collections.abc import Callable

import grpc
import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2
from services.ledger.channel.epochs import Epochs
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.batch_submitter import BatchSubmitter
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import World, endorse_error, of_record

_NOON = 1_790_000_040.0  # at the beginning of an epoch


class Unneeded:
    """No command was committed before."""

    async def blocks_of(self, tx_ids: object) -> dict[str, int]:
        raise AssertionError(tx_ids)


@pytest.fixture
def world() -> World:
    return World(clock=_NOON)


@pytest.fixture
def metrics() -> LedgerMetrics:
    return LedgerMetrics(Metrics("ledger"))


def epochs_of(world: World, metrics: LedgerMetrics, wait: Callable[[float], None] | None = None) -> Epochs:
    async def sleep(seconds: float) -> None:
        if wait is None:
            raise AssertionError("nothing to wait for")
        wait(seconds)
        await asyncio.sleep(0)

    return Epochs(world, metrics, clock=lambda: world.clock or 0.0, sleep=sleep)


async def test_whoever_is_first_tells_the_time_and_the_others_find_it_told(
    world: World, metrics: LedgerMetrics
) -> None:
    mercy, lakeside = epochs_of(world, metrics), epochs_of(world, metrics)

    assert await mercy.ensure()
    assert await lakeside.ensure()
    assert world.ticks == 1

    world.clock = _NOON + 59.9
    assert await mercy.ensure()
    assert world.ticks == 1
    world.clock = _NOON + 60
    assert await lakeside.ensure()
    assert world.ticks == 2


async def test_who_was_not_the_first_after_all_finds_it_told_the_next_time(
    world: World, metrics: LedgerMetrics
) -> None:
    world.verdicts.append(fabric.MVCC_READ_CONFLICT)
    epochs = epochs_of(world, metrics)

    assert not await epochs.ensure()
    assert await epochs_of(world, metrics).ensure()  # the other one's
    assert await epochs.ensure()
    assert world.ticks == 2


async def test_many_batches_that_were_refused_for_the_time_tell_it_once(
    world: World, metrics: LedgerMetrics
) -> None:
    carrier = BatchSubmitter(world, Unneeded(), metrics, epochs=epochs_of(world, metrics))

    answers = await asyncio.gather(*(carrier.carry([of_record()]) for _ in range(4)))

    assert [one.receipts[0].code for answer in answers for one in answer] == [code_pb2.CODE_OK] * 4
    assert world.ticks == 1


async def test_a_batch_after_an_idle_hour_is_carried(world: World, metrics: LedgerMetrics) -> None:
    epochs = epochs_of(world, metrics)
    carrier = BatchSubmitter(world, Unneeded(), metrics, epochs=epochs)
    await epochs.ensure()
    world.clock = _NOON + 3_600

    (answer,) = await carrier.carry([of_record()])

    assert answer.receipts[0].code == code_pb2.CODE_OK
    assert world.ticks == 2


async def test_the_time_is_told_each_minute_while_nothing_else_happens(
    world: World, metrics: LedgerMetrics
) -> None:
    begun: list[int] = []

    def wait(seconds: float) -> None:
        begun.append(world.epoch(int(world.clock or 0) // 60))
        if len(begun) == 5:
            raise asyncio.CancelledError
        world.clock = (world.clock or 0) + seconds

    with contextlib.suppress(asyncio.CancelledError):
        await epochs_of(world, metrics, wait).run()

    first = int(_NOON) // 60
    assert begun == [first + n for n in range(5)]
    assert world.ticks == 5


async def test_a_peer_that_was_away_is_asked_again_until_the_time_is_told(
    world: World, metrics: LedgerMetrics
) -> None:
    world.tick_faults.extend(
        [endorse_error(grpc.StatusCode.UNAVAILABLE), endorse_error(grpc.StatusCode.ABORTED)]
    )
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        await epochs_of(world, metrics, wait).run()

    assert world.ticks == 3
    assert waited[0] < waited[2]
    assert world.epoch(int(_NOON) // 60) == int(_NOON) // 60
