"""Whether the ledger service is ready: what its peer says, and how often it is asked."""

import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2
from services.ledger.health import MAX_LAG_BLOCKS, Health
from services.runtime.errors import MeshError
from tests.support.fakes.fabric_channel import World
from tests.support.fakes.projection_followers import Service, entry
from tests.support.waiting import until


async def test_a_service_whose_peer_refuses_its_blocks_is_not_ready_until_they_come(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refuses = world.blocks, True

    async def clocks_apart(start: int):
        if refuses:
            raise fabric.BlockEventsError(400, "BAD_REQUEST")
        async for block in real(start):
            yield block

    monkeypatch.setattr(world, "blocks", clocks_apart)
    health = Health(world, service.projection, service.ledger_metrics)
    service.project()
    await until(lambda: service.projection.refusal is not None, "the peer refused")

    problem = await health.check()

    assert problem is not None
    assert "refuses to deliver blocks (BAD_REQUEST)" in problem
    assert "timedatectl" in problem
    refuses = False
    await world.commit_writes(entry("1"))
    assert await service.projection.wait_for(1, 10)
    assert await health.check() is None


async def test_however_many_ask_for_the_height_the_peer_is_asked_once_a_second(
    world: World, service: Service
) -> None:
    health = Health(world, service.projection, service.ledger_metrics)
    await world.commit_writes(entry("1"))
    height = await health.height()

    world.down = True
    assert [await health.height() for _ in range(3)] == [height] * 3

    async def is_noticed() -> bool:
        try:
            await health.height()
        except MeshError as err:
            return err.code == code_pb2.CODE_UNAVAILABLE
        return False

    await until(is_noticed, "the peer is asked again")


async def test_a_projection_that_is_behind_keeps_nobody_from_writing_and_its_lists_say_so(
    world: World, service: Service
) -> None:
    health = Health(world, service.projection, service.ledger_metrics)
    for number in range(MAX_LAG_BLOCKS + 1):
        await world.commit_writes(entry(str(number)))

    assert await health.check() is None
    with pytest.raises(MeshError) as caught:
        await health.check_lists()
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert caught.value.retry_after_ms > 0

    service.project()
    assert await service.projection.wait_for(len(world.chain) - 1, 10)
    await health.check_lists()
