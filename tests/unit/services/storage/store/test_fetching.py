"""Blocks that are not here, or not as they were: from another member, checked, and put back."""

import pytest

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.storage.domain.batch import MIB
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, decrypt, item
from tests.support.fakes.storage_member import FakeKubo, Hospital
from tests.support.fakes.two_storages import World


async def refused(hospital: Hospital, tx_id: str, command_id: str, code: int) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await hospital.opening.open(tx_id, command_id)
    assert caught.value.code == code, caught.value
    return caught.value


async def test_a_block_that_was_lost_is_fetched_and_put_back(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address, bytes(2 * MIB))
    await world.write(record)
    blocks = set(world.mercy.kubo.blocks) - world.mercy.kubo.pinned
    decided = world.channel.decide(reader, record)
    lost = await world.start(MERCY, FakeKubo())

    opened = await lost.opening.open(*decided)

    assert decrypt(reader, opened, decided[1], record) == bytes(2 * MIB)
    assert blocks <= lost.kubo.kept()
    assert lost.count("blobs_repaired_total") == 4
    lost.wire.down.add(LAKESIDE)
    await lost.opening.open(*world.channel.decide(reader, record))


async def test_a_block_that_rotted_on_the_disk_is_noticed_and_read_from_elsewhere(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    cid = world.channel.records[record.record_id, 1].content.cid
    later = await world.start(MERCY, world.mercy.kubo)
    later.kubo.blocks[cid] = b"rot"

    opened = await later.opening.open(*decided)
    assert decrypt(reader, opened, decided[1], record) == b"a finding"
    assert later.count("blobs_repaired_total") == 0


async def test_a_member_that_gives_other_bytes_is_not_believed(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    later = await world.start(MERCY, world.mercy.kubo)
    del later.kubo.blocks[world.channel.records[record.record_id, 1].content.cid]
    later.wire.lying.add(LAKESIDE)
    await refused(later, *decided, code_pb2.CODE_INTEGRITY)
    assert later.count("integrity_failures_total", what="member-block") == 1


async def test_reads_go_on_while_the_own_kubo_is_down(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    later = await world.start(MERCY, world.mercy.kubo)
    later.kubo.down = True
    opened = await later.opening.open(*decided)
    assert decrypt(reader, opened, decided[1], record) == b"a finding"
    assert later.count("blobs_repaired_total") == 0


async def test_what_was_sealed_lately_is_read_without_asking_for_it(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.mercy.kubo.down = True
    world.mercy.wire.down.add(LAKESIDE)
    opened = await world.mercy.opening.open(*decided)
    assert decrypt(reader, opened, decided[1], record) == b"a finding"


async def test_what_was_read_lately_is_read_again_without_asking_for_it(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    await world.lakeside.opening.open(*decided)
    world.lakeside.kubo.down = True
    world.lakeside.wire.down.add(MERCY)
    decided = world.channel.decide(reader, record)
    opened = await world.lakeside.opening.open(*decided)
    assert decrypt(reader, opened, decided[1], record) == b"a finding"
