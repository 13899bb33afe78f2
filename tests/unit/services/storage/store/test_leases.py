"""What is pinned goes when the own ledger tells that nothing names it and nothing can; on nobody's word."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import MeshError
from services.runtime.tasks import end
from services.runtime.telemetry import Metrics
from services.storage.domain import batch
from services.storage.domain.batch import MIB
from services.storage.domain.lease import LEASE_MS, Content, Lease
from services.storage.metrics import StorageMetrics
from services.storage.sealing.sealer import Sealed
from services.storage.store.garbage_collector import GarbageCollector
from tests.support.fakes.committed_channel import AUTHOR, LAKESIDE, MERCY, item
from tests.support.fakes.storage_member import Hospital
from tests.support.fakes.two_storages import World
from tests.support.waiting import until

ENDED = LEASE_MS / 1000 + 1


class Killed(BaseException):
    """As by `kill -9`: nothing after it is done."""


def cids_of(sealed: Sealed) -> list[str]:
    return [result.stored.cid for result in sealed.results]


def held(hospital: Hospital) -> set[str]:
    """Blocks below pinned roots."""
    return hospital.kubo.kept() - hospital.kubo.pinned


async def test_what_is_committed_is_kept_for_good_and_is_not_asked_about_again(world: World) -> None:
    records = [item(world.patient().address) for _ in range(3)]
    sealed = await world.write(*records)

    await world.settle()

    for hospital in (world.mercy, world.lakeside):
        assert held(hospital) == set(cids_of(sealed))
        assert await hospital.leases.count() == 0
        assert hospital.count("leases_settled_total", outcome="committed") == 1
    await world.settle(ENDED)
    assert len(world.mercy.ledger.asked_for_contents) == 1
    assert held(world.lakeside) == set(cids_of(sealed))


async def test_what_is_refused_goes_and_its_neighbours_stay_with_their_chunks(world: World) -> None:
    patient = world.patient().address
    records = [item(patient, content) for content in (b"kept", b"refused", bytes(2 * MIB), bytes(2 * MIB))]
    sealed = await world.mercy.sealing.seal(records)
    everything = set(world.mercy.kubo.blocks)
    world.channel.commit(records, sealed, refused=[records[1], records[3]])

    await world.settle()

    small, refused, large, refused_too = cids_of(sealed)
    for hospital in (world.mercy, world.lakeside):
        assert {small, large} <= held(hospital)
        assert len(held(hospital)) == 1 + 4
        assert held(hospital).isdisjoint({refused, refused_too})
        assert await hospital.leases.count() == 0
        await hospital.collector.collect()
        assert set(hospital.kubo.blocks) == hospital.kubo.kept()
    assert len(everything - set(world.mercy.kubo.blocks)) == 1 + 1 + 4


async def test_what_nobody_knows_of_stays_until_nothing_can_name_it_any_more(world: World) -> None:
    sealed = await world.mercy.sealing.seal([item(world.patient().address)])

    await world.settle(LEASE_MS / 1000 - 60)
    assert held(world.mercy) == held(world.lakeside) == set(cids_of(sealed))

    await world.settle(121)
    assert not world.mercy.kubo.pinned
    assert not world.lakeside.kubo.pinned


async def test_a_ledger_that_is_away_lets_nothing_go(world: World) -> None:
    sealed = await world.mercy.sealing.seal([item(world.patient().address)])
    world.mercy.ledger.away = True

    await world.settle(2 * ENDED)

    assert held(world.mercy) == set(cids_of(sealed))
    assert not world.lakeside.kubo.pinned
    world.mercy.ledger.away = False
    await world.settle(61)
    assert not world.mercy.kubo.pinned


async def test_a_ledger_that_lags_lets_nothing_go_however_late_it_is(world: World) -> None:
    await world.settle(0)
    world.lakeside.ledger.lagging = deepcopy(world.channel)
    record = item(world.patient().address)
    sealed = await world.write(record)

    await world.settle(10 * ENDED)

    assert held(world.lakeside) == set(cids_of(sealed))
    world.lakeside.ledger.lagging = None
    await world.settle(61)
    assert held(world.lakeside) == set(cids_of(sealed))
    assert await world.lakeside.leases.count() == 0


async def test_on_a_channel_where_nothing_happens_nothing_is_let_go(world: World) -> None:
    sealed = await world.mercy.sealing.seal([item(world.patient().address)])
    await world.settle(10 * ENDED, channel_seconds=0)
    assert held(world.mercy) == set(cids_of(sealed))


async def test_a_wrong_clock_alone_lets_nothing_go(world: World) -> None:
    sealed = await world.mercy.sealing.seal([item(world.patient().address)])
    await world.settle(6, channel_seconds=10 * ENDED)
    assert held(world.mercy) == set(cids_of(sealed))


async def test_a_writer_that_names_a_refused_command_cannot_have_a_committed_record_let_go(
    world: World,
) -> None:
    """Its batch is committed, and it sends the same root for a command that it knows to be refused."""
    record = item(world.patient().address)
    sealed = await world.write(record)
    [name] = cids_of(sealed)
    refused = uuid7()
    world.channel.decided[refused, AUTHOR] = code_pb2.CODE_FORBIDDEN
    [root] = world.lakeside.kubo.pinned
    blocks = [(name, world.lakeside.kubo.blocks[name])]
    packed = batch.pack(blocks)
    assert packed.root_cid == root

    with pytest.raises(MeshError) as caught:
        await world.lakeside.hosting.replicate(MERCY, packed.car, root, [Content(name, refused, AUTHOR)])
    assert caught.value.code == code_pb2.CODE_CONFLICT
    await world.settle()
    await world.lakeside.hosting.replicate(MERCY, packed.car, root, [Content(name, refused, AUTHOR)])
    await world.settle(ENDED)

    assert held(world.lakeside) == {name}


async def test_a_writer_cannot_have_what_stayed_of_a_batch_let_go(world: World) -> None:
    """What stays lies under a root that the channel never names; the writer sends that one for a command that
    it knows to be refused."""
    records = [item(world.patient().address, content) for content in (b"kept", b"refused")]
    sealed = await world.mercy.sealing.seal(records)
    world.channel.commit(records, sealed, refused=[records[1]])
    await world.settle()
    kept, _ = cids_of(sealed)
    refused = uuid7()
    world.channel.decided[refused, AUTHOR] = code_pb2.CODE_FORBIDDEN
    packed = batch.pack([(kept, world.lakeside.kubo.blocks[kept])])
    assert packed.root_cid in world.lakeside.kubo.pinned

    await world.lakeside.hosting.replicate(
        MERCY, packed.car, packed.root_cid, [Content(kept, refused, AUTHOR)]
    )
    await world.settle(ENDED)
    await world.lakeside.collector.collect()

    assert kept in held(world.lakeside)


async def test_a_writer_that_had_leased_what_stays_before_cannot_have_it_let_go_either(world: World) -> None:
    records = [item(world.patient().address, content) for content in (b"kept", b"refused")]
    sealed = await world.mercy.sealing.seal(records)
    kept, _ = cids_of(sealed)
    pending = uuid7()
    packed = batch.pack([(kept, world.lakeside.kubo.blocks[kept])])
    await world.lakeside.hosting.replicate(
        MERCY, packed.car, packed.root_cid, [Content(kept, pending, AUTHOR)]
    )
    world.channel.commit(records, sealed, refused=[records[1]])
    await world.settle()
    world.channel.decided[pending, AUTHOR] = code_pb2.CODE_FORBIDDEN
    await world.settle(61)
    await world.lakeside.collector.collect()

    assert kept in held(world.lakeside)


async def test_a_root_that_two_members_sent_stays_until_the_fate_of_both_is_known(world: World) -> None:
    sent = batch.pack([(cids.raw(b"one"), b"one")])
    mine, theirs = (Content(cids.raw(b"one"), uuid7(), AUTHOR) for _ in range(2))
    for msp, content in ((MERCY, mine), ("ThirdMSP", theirs)):
        await world.lakeside.hosting.replicate(msp, sent.car, sent.root_cid, [content])
    world.channel.decided[mine.command_id, AUTHOR] = code_pb2.CODE_CONFLICT
    await world.settle()
    assert sent.root_cid in world.lakeside.kubo.pinned
    world.channel.decided[theirs.command_id, AUTHOR] = code_pb2.CODE_CONFLICT
    await world.settle(10)
    assert not world.lakeside.kubo.pinned


async def test_a_node_that_does_not_unpin_is_asked_again(world: World) -> None:
    await world.mercy.sealing.seal([item(world.patient().address)])
    world.mercy.kubo.down = True
    await world.settle(ENDED)
    assert world.mercy.kubo.pinned
    world.mercy.kubo.down = False
    await world.settle(61)
    assert not world.mercy.kubo.pinned


async def test_the_same_command_sealed_again_and_again_is_pinned_once(world: World) -> None:
    records = [item(world.patient().address) for _ in range(3)]
    first = await world.mercy.sealing.seal(records)
    for _ in range(20):
        again = await world.mercy.sealing.seal(records[1:])
        assert again.results == first.results[1:]
        assert again.seals == first.seals
    assert len(world.mercy.kubo.pinned) == len(world.lakeside.kubo.pinned) == 1
    assert world.mercy.count("records_reused_total") == 40


async def test_a_command_sealed_before_among_others_keeps_its_place_and_its_seal(world: World) -> None:
    patient = world.patient().address
    old, new = item(patient), item(patient)
    before = await world.mercy.sealing.seal([old])
    after = await world.mercy.sealing.seal([new, old, item("nobody")])

    assert after.results[1] == before.results[0]
    assert after.results[0].stored.root_sha256 != before.results[0].stored.root_sha256
    assert after.results[2].code == code_pb2.CODE_INVALID
    assert {seal.root_sha256 for seal in after.seals} == {
        result.stored.root_sha256 for result in after.results[:2]
    }


async def test_another_content_signer_or_version_under_the_same_id_is_sealed_for_itself(world: World) -> None:
    record = item(world.patient().address)
    other = item(record.patient, b"something else")
    await world.mercy.sealing.seal([record])
    for changed in (
        replace(record, content=other.content, salt=other.salt, commitment=other.commitment),
        replace(record, version=2),
        replace(record, signer="cb1" + "b" * 32),
    ):
        pinned = len(world.mercy.kubo.pinned)
        await world.mercy.sealing.seal([changed])
        assert len(world.mercy.kubo.pinned) == pinned + 1


async def test_what_was_sealed_is_given_again_after_a_restart_and_not_once_its_receipts_are_old(
    world: World,
) -> None:
    record = item(world.patient().address)
    first = await world.mercy.sealing.seal([record])
    again = await world.start(MERCY, world.mercy.kubo)
    assert (await again.sealing.seal([record])).results == first.results
    again.pass_time(12 * 60 + 1)
    assert (await again.sealing.seal([record])).results != first.results


# Each step at which a process may die: which method of whom, and whether before or after it is done.
STEPS = {
    "before the lease": ("leases", "open", True),
    "after the lease and before the pin": ("kubo", "import_car", True),
    "after the pin and before the replica": ("wire", "replicate", True),
    "after the replica and before the answer": ("wire", "replicate", False),
    "before it is noted that it stands": ("leases", "stand", True),
    "after it is noted and before the answer": ("leases", "stand", False),
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_storage_killed_at_any_step_of_sealing_leaves_no_pin_that_nothing_names(
    world: World, step: str
) -> None:
    name, method, before = STEPS[step]
    victim = getattr(world.mercy, name)
    real = getattr(victim, method)

    async def dies(*given: object, **named: object) -> None:
        if not before:
            await real(*given, **named)
        raise Killed

    setattr(victim, method, dies)
    world.mercy.leases.abandon = _nothing  # type: ignore[method-assign]
    record = item(world.patient().address)
    with pytest.raises(Killed):
        await world.mercy.sealing.seal([record])
    if name == "kubo":
        setattr(victim, method, real)
    await world.start(MERCY, world.mercy.kubo)
    await world.start(LAKESIDE, world.lakeside.kubo)

    # The engine sends the same again, and this time it is committed.
    sealed = await world.write(record)
    await world.settle(ENDED)

    for hospital in (world.mercy, world.lakeside):
        assert held(hospital) == set(cids_of(sealed))
        assert await hospital.leases.count() == 0
        await hospital.collector.collect()
        assert set(hospital.kubo.blocks) == hospital.kubo.kept()


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("step", ["unpin", "release", "pin_roots"])
async def test_a_storage_killed_while_it_lets_go_finishes_after_a_restart(
    world: World, step: str, *, committed: bool
) -> None:
    records = [item(world.patient().address) for _ in range(2)]
    sealed = await world.mercy.sealing.seal(records)
    world.channel.commit(records, sealed, refused=records[1:] if committed else records)
    victim = world.mercy.leases if step == "release" else world.mercy.kubo
    real = getattr(victim, step)

    async def dies(*_: object) -> None:
        raise Killed

    setattr(victim, step, dies)
    if step != "pin_roots" or committed:
        with pytest.raises(Killed):
            await world.settle()
    setattr(victim, step, real)
    world.mercy.pass_time(0)
    again = await world.start(MERCY, world.mercy.kubo)

    again.pass_time(10)
    await again.settler.settle_due()
    await again.collector.collect()

    assert held(again) == set(cids_of(sealed)[:1] if committed else ())
    assert set(again.kubo.blocks) == again.kubo.kept()
    assert await again.leases.count() == 0


async def test_a_gateway_that_dies_between_seal_and_submit_leaves_nothing_behind(world: World) -> None:
    await world.mercy.sealing.seal([item(world.patient().address)])
    await world.settle(ENDED)
    for hospital in (world.mercy, world.lakeside):
        await hospital.collector.collect()
        assert not hospital.kubo.blocks


async def test_a_block_that_is_pinned_for_another_s_sake_is_not_collected(world: World) -> None:
    """The same block below two roots: one is let go of."""
    shared = (cids.raw(b"shared"), b"shared")
    gone, kept = batch.pack([shared]), batch.pack([shared, (cids.raw(b"more"), b"more")])
    dead = Content(shared[0], uuid7(), AUTHOR)
    await world.lakeside.hosting.replicate(MERCY, gone.car, gone.root_cid, [dead])
    await world.lakeside.hosting.replicate(
        MERCY,
        kept.car,
        kept.root_cid,
        [Content(shared[0], uuid7(), AUTHOR), Content(cids.raw(b"more"), uuid7(), AUTHOR)],
    )
    world.channel.decided[dead.command_id, AUTHOR] = code_pb2.CODE_CONFLICT

    await world.settle()
    removed, waiting = await world.lakeside.collector.collect()

    assert (removed, waiting) == (1, 0)
    assert world.lakeside.kubo.pinned == {kept.root_cid}
    assert set(world.lakeside.kubo.blocks) == world.lakeside.kubo.kept()


async def test_a_collection_that_fails_is_tried_again_and_nothing_is_forgotten(world: World) -> None:
    await world.mercy.sealing.seal([item(world.patient().address)])
    await world.settle(ENDED)
    world.mercy.kubo.down = True
    with pytest.raises(MeshError):
        await world.mercy.collector.collect()
    assert await world.mercy.leases.count_waiting() == 2
    world.mercy.kubo.down = False
    assert await world.mercy.collector.collect() == (2, 0)


def test_a_lease_ends_by_the_channel_s_clock_and_the_own_alike() -> None:
    lease = Lease("root", MERCY, (), {}, 1_000)
    after = 1_000 + LEASE_MS + 1
    assert lease.has_ended(after, after)
    assert not lease.has_ended(after - 1, after)
    assert not lease.has_ended(after, after - 1)
    assert not lease.has_ended(0, after)


async def _nothing(_: Lease) -> None:
    """What a dead process does."""


async def test_what_is_refused_of_many_batches_is_let_go_of_by_a_few_calls(world: World) -> None:
    patient = world.patient().address
    kept: list[str] = []
    for _ in range(30):
        records = [item(patient), item(patient)]
        sealed = await world.mercy.sealing.seal(records)
        world.channel.commit(records, sealed, refused=records[1:])
        kept += cids_of(sealed)[:1]

    await world.settle()

    for hospital in (world.mercy, world.lakeside):
        assert held(hospital) == set(kept)
        assert hospital.kubo.calls["unpin"] == hospital.kubo.calls["pin_roots"] == 1
    assert [len(asked) for asked in world.mercy.ledger.asked_for_contents] == [30, 30]


async def test_a_batch_that_cannot_be_let_go_holds_up_no_other(world: World) -> None:
    patient = world.patient().address
    roots: list[str] = []
    for _ in range(3):
        records = [item(patient), item(patient)]
        sealed = await world.mercy.sealing.seal(records)
        world.channel.commit(records, sealed, refused=records[1:])
        roots.append(cids.of_root(sealed.seals[0].root_sha256))
    # The node has lost the root of one, and nobody remembers it.
    again = await world.start(LAKESIDE, world.lakeside.kubo)
    del again.kubo.blocks[roots[1]]

    await world.settle()

    assert again.kubo.pinned & set(roots) == {roots[1]}
    assert await again.leases.count() == 1


async def test_while_nothing_can_be_noted_nothing_is_settled_and_afterwards_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.write(item(world.patient().address))
    hospital, keep = world.mercy, world.mercy.leases.keep
    failed = asyncio.Event()

    async def full(_: object) -> None:
        failed.set()
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "the disk is full")

    for name in ("keep", "postpone"):
        monkeypatch.setattr(hospital.leases, name, lambda *_: full(_))
    hospital.pass_time(6)
    running = asyncio.create_task(hospital.settler.run())
    await failed.wait()
    monkeypatch.undo()
    assert hospital.leases.keep == keep

    async def settled() -> bool:
        return await hospital.leases.count() == 0

    await until(settled, "it is settled")
    await end(running)


async def test_a_collection_that_failed_after_a_while_gives_the_node_as_long_a_rest_as_another(
    world: World,
) -> None:
    """It held the node's lock all the same."""
    now, failed, asked = 0.0, 0, asyncio.Event()

    class Slow:
        async def remove(self, cids: Sequence[str]) -> int:
            nonlocal now, failed
            assert cids
            now, failed = now + 5.0, failed + 1
            asked.set()
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "the node did not answer in time")

    await world.mercy.sealing.seal([item(world.patient().address)])
    await world.settle(ENDED)
    mercy = world.mercy
    collector = GarbageCollector(
        mercy.leases,
        mercy.pins,
        Slow(),
        StorageMetrics(Metrics("storage")),
        every_seconds=0.0,
        quiet_seconds=0.0,
        clock=lambda: now,
    )
    task = asyncio.create_task(collector.run())
    await asyncio.wait_for(asked.wait(), 10)
    for _ in range(20):  # each of them time enough to ask again
        await mercy.leases.waiting(1)
    assert failed == 1

    now += 500.0
    asked.clear()
    await asyncio.wait_for(asked.wait(), 10)
    task.cancel()
