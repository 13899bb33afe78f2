"""A group that is larger than a window goes alone: it waits for what is before it, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.waiting import until
from tests.unit.services.gateway.conftest import World
from tests.unit.services.gateway.rpc.test_ingest import (
    Sender,
    _collected,
    group_of,
    quotas_of,
    stream,
    submission,
)


@pytest.mark.parametrize("commands", [5, 1_000], ids=["the client's window", "the stream's"])
async def test_a_group_larger_than_the_window_goes_alone_and_what_follows_it_too(
    world: World, commands: int
) -> None:
    quotas = quotas_of(commands=commands)
    world.ledger.hold.clear()
    sender = Sender(submission(world, "first"), group_of(world, "large", 128), submission(world, "last"))
    answered = asyncio.create_task(_collected(stream(world, sender, None, quotas)))
    await until(lambda: sender.taken == 2, "the group waits for the first")
    world.ledger.hold.set()

    assert [one.submission_id for one in await answered] == ["first", "large", "last"]
    assert quotas.of(world.engine.address).window.used == 0
