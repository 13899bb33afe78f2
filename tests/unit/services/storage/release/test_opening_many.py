"""OpenMany: many reads at once, each for itself; what they have in common is looked up once."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_SUSPENDED
from cbmdhi.protocol import hpke
from cbmdhi.protocol.state_keys import sealed_record_key_name
from services.runtime.errors import MeshError, code_name
from services.storage.domain.batch import MIB
from services.storage.release.record_opener import OpenedRecord
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, decrypt, item
from tests.support.fakes.two_storages import World

_NO_TRANSACTION = "0" * 64


def outcome(result: OpenedRecord | MeshError) -> str:
    return code_name(result.code) if isinstance(result, MeshError) else "OK"


async def test_many_are_opened_in_order_and_each_for_its_own_reader(world: World) -> None:
    patient = world.patient(LAKESIDE)
    records = [item(patient.address, f"finding {number}".encode()) for number in range(30)]
    await world.write(*records)
    readers = [world.clinician() for _ in range(3)]
    asked = [(readers[number % 3], record) for number, record in enumerate(records)]
    decided = [world.channel.decide(reader, record) for reader, record in asked]

    opened = await world.lakeside.opening.open_many(decided)

    for number, ((reader, record), (_, command_id), one) in enumerate(
        zip(asked, decided, opened, strict=True)
    ):
        assert isinstance(one, OpenedRecord)
        assert one.released_by == LAKESIDE
        assert decrypt(reader, one, command_id, record) == f"finding {number}".encode()
    ledger = world.lakeside.ledger
    assert ledger.asked_for_proofs == len(decided)
    assert sum(len(addresses) for addresses in ledger.asked_for_identities) <= 2 * 4
    assert world.lakeside.wire.asked == []


async def test_one_that_is_not_opened_harms_no_other(world: World) -> None:
    reader, suspended, unsealable = world.clinician(), world.clinician(), world.clinician()
    mine, gone, elsewhere = (
        item(world.patient(LAKESIDE).address),
        item(world.patient(LAKESIDE).address),
        item(world.patient(MERCY).address),
    )
    await world.write(mine, gone, elsewhere)
    decide = world.channel.decide
    decided = [
        decide(reader, mine),
        decide(reader, mine, code=code_pb2.CODE_FORBIDDEN),
        (_NO_TRANSACTION, "none"),
        decide(reader, mine, endorsers=world.channel.network.peers[:1]),
        decide(suspended, mine),
        decide(unsealable, mine),
        decide(reader, elsewhere),
        decide(reader, gone),
        (decide(reader, mine)[0], "another command"),
        decide(reader, mine),
    ]
    suspended.document.status = IDENTITY_STATUS_SUSPENDED
    unsealable.document.hpke_public_key = b"\xff" * hpke.PUBLIC_KEY_BYTES
    for hospital in world.hospitals.values():
        hospital.kubo.blocks.pop(world.channel.records[gone.record_id, 1].content.cid)
        hospital.recent._blocks.clear()

    opened = await world.lakeside.opening.open_many(decided)

    assert [outcome(one) for one in opened] == [
        "OK",
        "FORBIDDEN",
        "NOT_FOUND",
        "FORBIDDEN",
        "FORBIDDEN",
        "FORBIDDEN",
        "OK",
        "NOT_FOUND",
        "FORBIDDEN",
        "OK",
    ]
    for index, record in ((0, mine), (6, elsewhere), (9, mine)):
        there = opened[index]
        assert isinstance(there, OpenedRecord)
        assert decrypt(reader, there, decided[index][1], record) == b"a finding"
    assert set(world.lakeside.wire.asked) == {MERCY}


async def test_a_sealed_key_that_is_damaged_is_that_patients_trouble_alone(world: World) -> None:
    reader, damaged, well = world.clinician(), world.patient(LAKESIDE), world.patient(LAKESIDE)
    records = [item(damaged.address), item(well.address)]
    await world.write(*records)
    world.hospitals[MERCY].wire.down.add(LAKESIDE)
    world.lakeside.wire.down.add(MERCY)
    vault = world.channel.members[LAKESIDE].vault_public_key
    too_short = hpke.seal(vault, b"no key", hpke.RECORD_KEY, damaged.address, LAKESIDE)
    world.channel.private[LAKESIDE, sealed_record_key_name(damaged.address)] = too_short

    opened = await world.lakeside.opening.open_many(
        [world.channel.decide(reader, record) for record in records]
    )

    assert [outcome(one) for one in opened] == ["UNAVAILABLE", "OK"]
    assert world.lakeside.count("integrity_failures_total", what="sealed-key") == 1


async def test_what_is_over_eight_mebibytes_is_to_be_asked_for_alone(world: World) -> None:
    reader, patient = world.clinician(), world.patient()
    records = [item(patient.address, bytes([number]) * (3 * MIB)) for number in range(4)]
    small = item(patient.address)
    for record in (*records, small):
        await world.write(record)
    decided = [world.channel.decide(reader, record) for record in (*records, small)]

    opened = await world.mercy.opening.open_many(decided)

    assert [outcome(one) for one in opened] == ["OK", "OK", "OK", "TOO_LARGE", "TOO_LARGE"]
    alone = await world.mercy.opening.open(*decided[3])
    assert decrypt(reader, alone, decided[3][1], records[3]) == records[3].content


async def test_a_channel_that_understates_sizes_does_not_make_the_answer_larger(world: World) -> None:
    reader, patient = world.clinician(), world.patient()
    records = [item(patient.address, bytes([number]) * (5 * MIB)) for number in range(5)]
    for record in records:
        await world.write(record)
        world.channel.records[record.record_id, 1].content.stored_bytes = 1
    opened = await world.mercy.opening.open_many([world.channel.decide(reader, record) for record in records])
    assert sorted(outcome(one) for one in opened) == ["OK", "OK", "TOO_LARGE", "TOO_LARGE", "TOO_LARGE"]


async def test_what_was_replicated_lately_is_read_without_the_kubo_node(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.lakeside.kubo.down = True
    world.lakeside.wire.down.add(MERCY)
    opened = await world.lakeside.opening.open(*decided)
    assert decrypt(reader, opened, decided[1], record) == b"a finding"
