"""Seal and Discard: all copies or none, and a bad item alone."""

import asyncio
import hashlib

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_SUSPENDED
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import hpke
from services.runtime.errors import MeshError
from services.storage.domain.batch import MIB, Item, Refusal
from services.storage.ledger import now_ms
from services.storage.sealing import SealedBatch, SealedItem
from tests.support.waiting import until
from tests.unit.storage.channel import LAKESIDE, MERCY, item
from tests.unit.storage.hospital import Hospital
from tests.unit.storage.world import World


def sealed_of(batch: SealedBatch, index: int = 0) -> SealedItem:
    result = batch.results[index]
    assert isinstance(result, SealedItem)
    return result


async def swept(hospital: Hospital, condition: object) -> None:
    """Run the keeper until a condition holds."""
    task = asyncio.create_task(hospital.keeper.run())
    try:
        await until(condition)  # type: ignore[arg-type]
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_batch_is_pinned_here_and_at_the_other_member_with_a_receipt(world: World) -> None:
    patient = world.patient()
    batch = await world.mercy.sealing.seal([item(patient.address) for _ in range(5)])

    assert batch.holders == (MERCY, LAKESIDE)
    assert [receipt.msp for receipt in batch.receipts] == [LAKESIDE]
    for hospital in (world.mercy, world.lakeside):
        assert hospital.kubo.pinned == {batch.root_cid}
        assert {sealed_of(batch, n).record.cid for n in range(5)} <= hospital.kubo.kept()
    assert world.mercy.count("records_sealed_total") == 5
    assert world.mercy.count("replicas_confirmed_total") == 1
    assert await world.mercy.roots.count_due() == 0


async def test_what_is_stored_shows_nothing_of_the_content(world: World) -> None:
    patient = world.patient()
    await world.mercy.sealing.seal([item(patient.address, b"a telling word")])
    for hospital in (world.mercy, world.lakeside):
        assert all(b"telling" not in block for block in hospital.kubo.blocks.values())


async def test_a_batch_with_one_bad_commitment_seals_its_neighbours(world: World) -> None:
    patient = world.patient()
    good, bad, also_good = (item(patient.address) for _ in range(3))
    bad = Item(bad.record_id, 1, bad.patient, b"changed on the way", bad.salt, bad.commitment)

    batch = await world.mercy.sealing.seal([good, bad, also_good])

    refusal = batch.results[1]
    assert isinstance(refusal, Refusal)
    assert refusal.code == code_pb2.CODE_INTEGRITY
    assert {sealed_of(batch, 0).record.cid, sealed_of(batch, 2).record.cid} <= world.lakeside.kubo.kept()


async def test_a_stranger_a_clinician_and_a_suspended_patient_are_refused_alone(world: World) -> None:
    patient, suspended, clinician = world.patient(), world.patient(), world.clinician()
    suspended.document.status = IDENTITY_STATUS_SUSPENDED
    stranger = item("cb1" + "a" * 32)

    batch = await world.mercy.sealing.seal(
        [stranger, item(clinician.address), item(suspended.address), item(patient.address)]
    )

    codes = [result.code for result in batch.results if isinstance(result, Refusal)]
    assert codes == [code_pb2.CODE_NOT_FOUND] * 3
    assert sealed_of(batch, 3).record.cid in world.mercy.kubo.kept()


async def test_a_batch_of_nothing_but_bad_items_stores_nothing(world: World) -> None:
    batch = await world.mercy.sealing.seal([item("nobody")])
    assert (batch.root_cid, batch.receipts) == ("", ())
    assert not world.mercy.kubo.blocks


@pytest.mark.parametrize(
    ("contents", "code"),
    [([], code_pb2.CODE_INVALID), ([b""] * 1001, code_pb2.CODE_TOO_LARGE)],
)
async def test_a_batch_over_its_limits_is_refused_whole(
    world: World, contents: list[bytes], code: int
) -> None:
    patient = world.patient()
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(patient.address, content) for content in contents])
    assert caught.value.code == code
    assert not world.mercy.kubo.blocks


async def test_two_full_contents_fit_into_one_batch(world: World) -> None:
    patient = world.patient()
    batch = await world.mercy.sealing.seal([item(patient.address, bytes(16 * MIB)) for _ in range(2)])
    assert len(sealed_of(batch).record.blocks) == 1 + 17
    assert {name for name, _ in sealed_of(batch, 1).record.blocks} <= world.lakeside.kubo.kept()


async def test_a_content_over_16_mib_is_refused_alone(world: World) -> None:
    patient = world.patient()
    batch = await world.mercy.sealing.seal(
        [item(patient.address, bytes(16 * MIB + 1)), item(patient.address)]
    )
    refusal = batch.results[0]
    assert isinstance(refusal, Refusal)
    assert refusal.code == code_pb2.CODE_TOO_LARGE
    assert isinstance(batch.results[1], SealedItem)


async def test_too_few_replicas_leave_nothing_pinned(world: World) -> None:
    world.mercy.wire.down.add(LAKESIDE)
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE

    await swept(world.mercy, lambda: not world.mercy.kubo.pinned)
    assert world.mercy.count("records_sealed_total") == 0


async def test_a_receipt_that_does_not_verify_counts_for_nothing(world: World) -> None:
    world.mercy.wire.lying.add(LAKESIDE)
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert world.mercy.count("integrity_failures_total", what="receipt") == 1

    await swept(world.mercy, lambda: not world.mercy.kubo.pinned and not world.lakeside.kubo.pinned)


async def test_an_own_kubo_that_is_down_leaves_nothing_at_the_other_member(world: World) -> None:
    world.mercy.kubo.down = True
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    await swept(world.mercy, lambda: not world.lakeside.kubo.pinned)


async def test_what_could_not_be_let_go_is_let_go_after_a_restart(world: World) -> None:
    world.mercy.wire.lying.add(LAKESIDE)
    with pytest.raises(MeshError):
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert world.lakeside.kubo.pinned

    again = await world.start(MERCY, world.mercy.kubo)
    await swept(again, lambda: not again.kubo.pinned and not world.lakeside.kubo.pinned)


async def test_a_policy_of_one_copy_needs_no_other_member(world: World) -> None:
    world.channel.min_replicas = 1
    world.mercy.wire.down.add(LAKESIDE)
    batch = await world.mercy.sealing.seal([item(world.patient().address)])
    assert batch.holders == (MERCY,)


async def test_discard_keeps_the_survivors_and_their_chunks_here_and_there(world: World) -> None:
    patient = world.patient()
    contents = (b"kept", b"dropped", bytes(2 * MIB))
    batch = await world.mercy.sealing.seal([item(patient.address, content) for content in contents])
    small, dropped, large = (sealed_of(batch, n).record for n in range(3))

    await world.mercy.sealing.discard(batch.root_cid, [small.cid, large.cid])
    survivors = {name for record in (small, large) for name, _ in record.blocks}

    def only_survivors(hospital: Hospital) -> bool:
        kept = hospital.kubo.kept() - hospital.kubo.pinned
        return kept == survivors and batch.root_cid not in hospital.kubo.pinned

    await swept(world.mercy, lambda: only_survivors(world.mercy) and only_survivors(world.lakeside))
    assert dropped.cid not in world.lakeside.kubo.kept()


async def test_discard_of_everything_leaves_nothing_and_can_be_sent_again(world: World) -> None:
    batch = await world.mercy.sealing.seal([item(world.patient().address)])
    await world.mercy.sealing.discard(batch.root_cid, [])
    await world.mercy.sealing.discard(batch.root_cid, [])
    await swept(world.mercy, lambda: not world.lakeside.kubo.pinned and not world.mercy.kubo.pinned)


async def refused_in_part(world: World, count: int) -> tuple[list[str], list[str]]:
    """Roots of batches of two records, of which the second was refused; and the CIDs of the first."""
    patient = world.patient()
    roots: list[str] = []
    kept: list[str] = []
    for _ in range(count):
        batch = await world.mercy.sealing.seal([item(patient.address), item(patient.address)])
        roots.append(batch.root_cid)
        kept.append(sealed_of(batch, 0).record.cid)
        await world.mercy.sealing.discard(roots[-1], kept[-1:])
    return roots, kept


async def test_what_is_refused_of_many_batches_is_let_go_of_together(world: World) -> None:
    _, kept = await refused_in_part(world, 30)

    def done(hospital: Hospital) -> bool:
        return hospital.kubo.kept() - hospital.kubo.pinned == set(kept)

    await swept(world.mercy, lambda: done(world.mercy) and done(world.lakeside))
    assert world.mercy.wire.unpinned == [(LAKESIDE, 25), (LAKESIDE, 5)]


async def test_a_batch_that_cannot_be_let_go_holds_up_no_other(world: World) -> None:
    (first, stuck, last), _ = await refused_in_part(world, 3)
    # The replica will not keep what is not below that root.
    await world.mercy.roots.release(stuck, [LAKESIDE], [cids.raw(b"never sealed")], 0)

    async def postponed() -> bool:
        dues = await world.mercy.roots.due(now_ms() + 60_000, 100)
        return [(due.msp, due.attempts) for due in dues] == [(LAKESIDE, 1)] * 3

    await swept(world.mercy, postponed)
    world.mercy.clock_ms = lambda: now_ms() + 60_000
    await swept(world.mercy, lambda: world.lakeside.kubo.pinned.isdisjoint({first, last}))
    assert stuck in world.lakeside.kubo.pinned


async def test_discard_keeps_nothing_that_was_not_in_the_batch(world: World) -> None:
    patient = world.patient()
    one = await world.mercy.sealing.seal([item(patient.address)])
    other = await world.mercy.sealing.seal([item(patient.address)])
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.discard(one.root_cid, [sealed_of(other).record.cid])
    assert caught.value.code == code_pb2.CODE_INVALID
    assert one.root_cid in world.mercy.kubo.pinned


async def test_a_new_patients_key_is_sealed_for_writer_and_custodians_until_committed(world: World) -> None:
    patient = world.patient(LAKESIDE)
    items = [item(patient.address)]
    first = await world.mercy.sealing.seal(items)
    assert sealed_of(first).key_holders == (MERCY, LAKESIDE)
    key = sealed_of(first).writer_key.key
    opened = hpke.open(
        patient.hpke_private, key.sealed, hpke.WRITER_KEY, patient.address, MERCY, key.ref.key_id
    )
    assert opened == key.key
    assert key.ref.sealed_key_sha256 == hashlib.sha256(key.sealed).digest()

    again = await world.mercy.sealing.seal([item(patient.address)])
    assert sealed_of(again).writer_key.key == key
    assert sealed_of(again).key_holders == (MERCY, LAKESIDE)

    world.channel.commit(items, first)
    after = await world.mercy.sealing.seal([item(patient.address)])
    assert sealed_of(after).writer_key.key == key
    assert sealed_of(after).key_holders == ()

    asked = len(world.mercy.ledger.asked_for_writer_keys)
    await world.mercy.sealing.seal([item(patient.address)])
    assert len(world.mercy.ledger.asked_for_writer_keys) == asked


async def test_two_seals_racing_make_one_writer_key(world: World) -> None:
    patient = world.patient()
    batches = await asyncio.gather(*(world.mercy.sealing.seal([item(patient.address)]) for _ in range(8)))
    assert len({sealed_of(batch).writer_key.key for batch in batches}) == 1


async def test_two_processes_over_one_vault_make_one_writer_key(world: World) -> None:
    patient = world.patient()
    one, other = world.mercy, await world.start(MERCY, world.mercy.kubo)
    batches = await asyncio.gather(
        one.sealing.seal([item(patient.address)]), other.sealing.seal([item(patient.address)])
    )
    assert len({sealed_of(batch).writer_key.key for batch in batches}) == 1


async def test_a_restart_finds_its_writer_keys(world: World) -> None:
    patient = world.patient()
    before = await world.mercy.sealing.seal([item(patient.address)])
    again = await world.start(MERCY, world.mercy.kubo)
    after = await again.sealing.seal([item(patient.address)])
    assert sealed_of(after).writer_key.key == sealed_of(before).writer_key.key


async def test_more_than_fits_at_a_time_is_refused_and_fits_later(world: World) -> None:
    patient = world.patient()
    large = [item(patient.address, bytes(16 * MIB)) for _ in range(2)]
    first, second = await asyncio.gather(
        world.mercy.sealing.seal(large),
        world.mercy.sealing.seal([item(patient.address)]),
        return_exceptions=True,
    )
    assert not isinstance(first, BaseException)
    assert isinstance(second, MeshError)
    assert second.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert second.retry_after_ms > 0
    await world.mercy.sealing.seal([item(patient.address)])
