"""Seal: all copies or none, and a bad item alone."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_SUSPENDED
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import hpke, replica
from services.runtime.errors import MeshError
from services.storage.domain.batch import MIB
from services.storage.domain.lease import LEASE_MS
from services.storage.sealing.sealer import Sealed
from tests.support.channel import CHANNEL
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, item
from tests.support.fakes.two_storages import World


def cid_of(batch: Sealed, index: int = 0) -> str:
    result = batch.results[index]
    assert result.code == code_pb2.CODE_OK
    return result.stored.cid


def root_of(batch: Sealed) -> str:
    [seal] = batch.seals
    return cids.of_root(seal.root_sha256)


def key_holders(batch: Sealed, index: int = 0) -> list[str]:
    return [one.msp for one in batch.results[index].sealed_keys]


async def test_a_batch_is_pinned_here_and_at_the_other_member_and_both_swear_to_it(world: World) -> None:
    patient = world.patient()
    items = [item(patient.address) for _ in range(5)]
    batch = await world.mercy.sealing.seal(items)

    [seal] = batch.seals
    assert [receipt.msp for receipt in seal.receipts] == [MERCY, LAKESIDE]
    for receipt in seal.receipts:
        key = world.channel.members[receipt.msp].storage_signing_key
        replica.verify_receipt(receipt, CHANNEL.genesis_sha256, key)
        assert receipt.contents_sha256 == hashlib.sha256(seal.contents).digest()
    stated = [replica.stated(one.stored.stored_bytes, one.stored.writer_key) for one in batch.results]
    named = [(cid_of(batch, n), one.command_id, one.signer, stated[n]) for n, one in enumerate(items)]
    assert seal.contents == replica.contents(named)
    for result in batch.results:
        assert list(result.stored.replicas) == [MERCY, LAKESIDE]
        assert result.stored.root_sha256 == seal.root_sha256
    for hospital in (world.mercy, world.lakeside):
        assert hospital.kubo.pinned == {root_of(batch)}
        assert {cid_of(batch, n) for n in range(5)} <= hospital.kubo.kept()
        assert await hospital.leases.count() == 1
    assert world.mercy.count("records_sealed_total") == 5
    assert world.mercy.count("replicas_confirmed_total") == 1


async def test_what_is_stored_shows_nothing_of_the_content(world: World) -> None:
    patient = world.patient()
    await world.mercy.sealing.seal([item(patient.address, b"a telling word")])
    for hospital in (world.mercy, world.lakeside):
        assert all(b"telling" not in block for block in hospital.kubo.blocks.values())


async def test_a_batch_with_one_bad_commitment_seals_its_neighbours(world: World) -> None:
    patient = world.patient()
    good, bad, also_good = (item(patient.address) for _ in range(3))
    bad = replace(bad, content=b"changed on the way")

    batch = await world.mercy.sealing.seal([good, bad, also_good])

    assert batch.results[1].code == code_pb2.CODE_INTEGRITY
    assert {cid_of(batch, 0), cid_of(batch, 2)} <= world.lakeside.kubo.kept()


async def test_a_stranger_a_clinician_and_a_suspended_patient_are_refused_alone(world: World) -> None:
    patient, suspended, clinician = world.patient(), world.patient(), world.clinician()
    suspended.document.status = IDENTITY_STATUS_SUSPENDED
    stranger = item("cb1" + "a" * 32)

    batch = await world.mercy.sealing.seal(
        [stranger, item(clinician.address), item(suspended.address), item(patient.address)]
    )

    assert [result.code for result in batch.results[:3]] == [code_pb2.CODE_NOT_FOUND] * 3
    assert cid_of(batch, 3) in world.mercy.kubo.kept()


async def test_a_batch_of_nothing_but_bad_items_stores_nothing(world: World) -> None:
    batch = await world.mercy.sealing.seal([item("nobody")])
    assert not batch.seals
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
    await world.mercy.sealing.seal([item(patient.address, bytes(16 * MIB)) for _ in range(2)])
    blocks = set(world.mercy.kubo.blocks)
    assert len(blocks) == 1 + 2 * (1 + 17)
    assert blocks == world.lakeside.kubo.kept()


async def test_a_content_over_16_mib_is_refused_alone(world: World) -> None:
    patient = world.patient()
    batch = await world.mercy.sealing.seal(
        [item(patient.address, bytes(16 * MIB + 1)), item(patient.address)]
    )
    assert [result.code for result in batch.results] == [code_pb2.CODE_TOO_LARGE, code_pb2.CODE_OK]


async def test_too_few_replicas_leave_nothing_pinned(world: World) -> None:
    world.mercy.wire.down.add(LAKESIDE)
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE

    # It gave its word to nobody, and need not wait.
    await world.settle(0)
    assert not world.mercy.kubo.pinned
    assert world.mercy.count("records_sealed_total") == 0


async def test_a_receipt_that_does_not_verify_counts_for_nothing(world: World) -> None:
    world.mercy.wire.lying.add(LAKESIDE)
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert world.mercy.count("integrity_failures_total", what="receipt") == 1

    await world.settle(0)
    assert not world.mercy.kubo.pinned
    # The other member gave its word, whatever became of it on the way.
    assert world.lakeside.kubo.pinned
    await world.settle(LEASE_MS / 1000 + 1)
    assert not world.lakeside.kubo.pinned


async def test_an_own_kubo_that_is_down_leaves_nothing_at_the_other_member(world: World) -> None:
    world.mercy.kubo.down = True
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(world.patient().address)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    await world.settle(LEASE_MS / 1000 + 1)
    assert not world.lakeside.kubo.pinned


async def refused(world: World, patient: str) -> None:
    """A batch whose lease is some pages long."""
    with pytest.raises(MeshError) as caught:
        await world.mercy.sealing.seal([item(patient) for _ in range(64)])
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE


async def allow(world: World, pages: int) -> None:
    """So many pages mercy's database may have; when it has as many or more, its disk is full."""
    await world.mercy.database.write(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())


@pytest.mark.parametrize("full", ["node", "notes"])
async def test_while_the_own_disk_is_full_what_is_refused_fills_nobody_elses(world: World, full: str) -> None:
    """What was seen: each refused batch was pinned at the other members for a quarter of an hour."""
    patient = world.patient().address
    await world.mercy.sealing.seal([item(patient)])
    if full == "node":
        world.mercy.kubo.down = True
    else:
        await allow(world, 1)
    # Nobody knows it before.
    await refused(world, patient)
    pinned = set(world.lakeside.kubo.pinned)

    for _ in range(5):
        await refused(world, patient)

    assert world.lakeside.kubo.pinned == pinned
    world.mercy.kubo.down = False
    await allow(world, 1_000_000)
    for _ in range(2):
        sealed = await world.mercy.sealing.seal([item(patient)])
        assert [receipt.msp for receipt in sealed.seals[0].receipts] == [MERCY, LAKESIDE]
    assert len(world.lakeside.kubo.pinned) == len(pinned) + 2


async def test_what_cannot_be_noted_before_it_is_answered_goes_at_once_and_fills_nobody_elses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "the disk is full")

    patient = world.patient().address
    monkeypatch.setattr(world.mercy.leases, "stand", full)
    await refused(world, patient)
    await world.settle(0)
    assert not world.mercy.kubo.pinned
    pinned = set(world.lakeside.kubo.pinned)
    world.mercy.kubo.down = True
    await refused(world, patient)
    assert world.lakeside.kubo.pinned == pinned


async def test_a_policy_of_one_copy_needs_no_other_member(world: World) -> None:
    world.channel.min_replicas = 1
    world.mercy.wire.down.add(LAKESIDE)
    batch = await world.mercy.sealing.seal([item(world.patient().address)])
    assert [receipt.msp for receipt in batch.seals[0].receipts] == [MERCY]


async def test_a_new_patients_key_is_sealed_for_writer_and_custodians_until_committed(world: World) -> None:
    patient = world.patient(LAKESIDE)
    items = [item(patient.address)]
    first = await world.mercy.sealing.seal(items)
    assert key_holders(first) == [MERCY, LAKESIDE]
    named, sealed = first.results[0].stored.writer_key, first.results[0].sealed_keys[0].sealed
    opened = hpke.open(patient.hpke_private, sealed, hpke.WRITER_KEY, patient.address, MERCY, named.key_id)
    [held] = (await world.mercy.vault.keys([named.key_id])).values()
    assert opened == held.key
    assert named.sealed_key_sha256 == hashlib.sha256(sealed).digest()

    again = await world.mercy.sealing.seal([item(patient.address)])
    assert again.results[0].stored.writer_key == named
    assert key_holders(again) == [MERCY, LAKESIDE]

    world.channel.commit(items, first)
    after = await world.mercy.sealing.seal([item(patient.address)])
    assert after.results[0].stored.writer_key == named
    assert key_holders(after) == []

    asked = len(world.mercy.ledger.asked_for_writer_keys)
    await world.mercy.sealing.seal([item(patient.address)])
    assert len(world.mercy.ledger.asked_for_writer_keys) == asked


def keys_of(*batches: Sealed) -> set[str]:
    return {batch.results[0].stored.writer_key.key_id for batch in batches}


async def test_two_seals_racing_make_one_writer_key(world: World) -> None:
    patient = world.patient()
    batches = await asyncio.gather(*(world.mercy.sealing.seal([item(patient.address)]) for _ in range(8)))
    assert len(keys_of(*batches)) == 1


async def test_two_processes_over_one_vault_make_one_writer_key(world: World) -> None:
    patient = world.patient()
    one, other = world.mercy, await world.start(MERCY, world.mercy.kubo)
    batches = await asyncio.gather(
        one.sealing.seal([item(patient.address)]), other.sealing.seal([item(patient.address)])
    )
    assert len(keys_of(*batches)) == 1


async def test_a_restart_finds_its_writer_keys(world: World) -> None:
    patient = world.patient()
    before = await world.mercy.sealing.seal([item(patient.address)])
    again = await world.start(MERCY, world.mercy.kubo)
    after = await again.sealing.seal([item(patient.address)])
    assert len(keys_of(before, after)) == 1


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
