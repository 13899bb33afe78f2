"""What one member may have pinned at another one of which the channel has not decided."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import MeshError
from services.storage.domain import batch
from services.storage.domain.batch import MIB
from services.storage.domain.lease import LEASE_MS, Content, Quota
from tests.support.fakes.committed_channel import AUTHOR, MERCY, item
from tests.support.fakes.two_storages import World

NORTHGATE = "NorthgateMSP"
QUOTA_BATCHES, QUOTA_MIB = 30, 20


@pytest.fixture(autouse=True)
def _little_room(world: World) -> None:
    world.lakeside.host_within(Quota(QUOTA_BATCHES, QUOTA_MIB * MIB))


async def push(world: World, content: bytes, by: str = MERCY) -> None:
    """As a member's storage that never means to commit it."""
    packed = batch.pack([(cid.raw(content), content)])
    contents = [Content(cid.raw(content), uuid7(), AUTHOR)]
    await world.lakeside.hosting.replicate(by, packed.car, packed.root_cid, contents)


async def refused(world: World, content: bytes, by: str = MERCY) -> MeshError:
    before = set(world.lakeside.kubo.blocks)
    with pytest.raises(MeshError) as caught:
        await push(world, content, by)
    assert set(world.lakeside.kubo.blocks) == before
    return caught.value


def mib(number: int) -> bytes:
    return number.to_bytes(4, "big") + bytes(MIB - 4)


async def test_a_member_that_commits_nothing_fills_no_more_than_its_quota(world: World) -> None:
    for number in range(QUOTA_MIB - 1):  # a CAR is somewhat more than its content
        await push(world, mib(number))
    error = await refused(world, mib(99))
    assert error.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert error.retry_after_ms > 0
    assert world.lakeside.count("replicas_over_quota_total") == 1
    # Its own look-out, and nobody else's.
    await push(world, mib(100), NORTHGATE)
    # What is held already may be sent again.
    await push_again(world, 0)


async def push_again(world: World, number: int) -> None:
    content = mib(number)
    packed = batch.pack([(cid.raw(content), content)])
    lease = await world.lakeside.leases.find(packed.root_cid, MERCY)
    assert lease is not None
    await world.lakeside.hosting.replicate(MERCY, packed.car, packed.root_cid, lease.contents)


async def test_many_small_batches_are_too_many_too(world: World) -> None:
    for number in range(QUOTA_BATCHES):
        await push(world, number.to_bytes(4, "big"))
    assert (await refused(world, b"one more")).code == code_pb2.CODE_RESOURCE_EXHAUSTED
    await push(world, b"one more", NORTHGATE)


async def test_what_is_settled_counts_no_more(world: World) -> None:
    for number in range(QUOTA_BATCHES):
        await push(world, number.to_bytes(4, "big"))
    await refused(world, b"one more")

    await world.settle(LEASE_MS / 1000 + 1)

    await push(world, b"one more")
    assert await world.lakeside.leases.count() == 1


async def test_an_honest_member_writes_on_as_its_records_are_committed(world: World) -> None:
    patient = world.patient().address
    for _ in range(3 * QUOTA_BATCHES):
        await world.write(item(patient))
        await world.settle()
    assert world.lakeside.count("replicas_over_quota_total") == 0


async def test_it_is_shown_how_much_the_member_with_the_most_has_open(world: World) -> None:
    await push(world, mib(1))
    await push(world, mib(2))
    await push(world, mib(3), NORTHGATE)
    await world.settle(1)
    assert 2 * MIB < world.lakeside.count("leased_to_member_bytes") < 2.1 * MIB
