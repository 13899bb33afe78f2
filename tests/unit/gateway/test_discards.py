"""What was sealed and not committed is let go beside the answers; what is lost of it is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from cbmdhi.command.v1 import code_pb2
from services.gateway import discards as discards_module
from services.gateway.discards import Discards
from services.gateway.metrics import GatewayMetrics
from services.runtime.errors import MeshError
from services.runtime.tasks import end
from services.runtime.telemetry import Metrics
from tests.support.waiting import until


class Store:
    """Lets go when `open` is set; `away`: so many calls fail first."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.away = 0
        self.let_go: list[str] = []

    async def discard(self, root_cid: str, keep_cids: Sequence[str]) -> None:
        await self.open.wait()
        if self.away:
            self.away -= 1
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        self.let_go.append(root_cid)


class World:
    def __init__(self) -> None:
        self.store = Store()
        self._metrics = Metrics("gateway")
        self.discards = Discards(self.store, GatewayMetrics(self._metrics), first_delay_seconds=0.001)

    def count(self, outcome: str) -> float | None:
        return self._metrics.registry.get_sample_value("cbmdhi_gateway_discarded_total", {"outcome": outcome})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    running = asyncio.create_task(made.discards.run())
    yield made
    await end(running)


async def test_what_is_let_go_keeps_nobody_waiting_and_leaves_in_turn(world: World) -> None:
    world.discards.discard("first", [], 1)
    world.discards.discard("second", ["kept"], 2)
    assert world.store.let_go == []

    world.store.open.set()
    await world.discards.finish()
    assert world.store.let_go == ["first", "second"]
    assert world.count("done") == 3


async def test_what_storage_does_not_take_is_sent_again_and_counted_as_late(world: World) -> None:
    world.store.open.set()
    world.store.away = 3
    world.discards.discard("first", [], 5)
    await until(lambda: world.count("late") == 5, "it is let go late")
    assert world.store.let_go == ["first"]


async def test_what_storage_never_takes_is_lost_and_does_not_hold_up_the_next(world: World) -> None:
    world.store.open.set()
    world.store.away = 10
    world.discards.discard("first", [], 5)
    world.discards.discard("second", [], 1)
    await until(lambda: world.store.let_go == ["second"], "the next is let go")
    assert world.count("lost") == 5


async def test_over_the_bound_nothing_is_remembered_but_the_count_of_what_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discards_module, "_MOST_WAITING", 2)
    for number in range(3):
        world.discards.discard(f"root-{number}", [], 7)
    assert world.count("lost") == 7

    world.store.open.set()
    await world.discards.finish()
    assert world.store.let_go == ["root-0", "root-1"]


async def test_a_gateway_that_ends_waits_a_little_and_counts_what_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discards_module, "_FINISH_SECONDS", 0.01)
    world.discards.discard("first", [], 5)
    world.discards.discard("second", [], 1)
    await world.discards.finish()
    assert world.count("lost") == 6
