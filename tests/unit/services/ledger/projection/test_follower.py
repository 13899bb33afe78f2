"""Blocks become rows and events: each once in the projection, none skipped, whoever crashes in between."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import audit_key
from fabric_gateway import Action, BlockTransaction, Write
from services.ledger.projection.committed import Checkpoint, CommittedBlock, committed
from services.ledger.projection.projection import PROJECTION, PUBLICATION
from services.ledger.projection.schema import MIGRATIONS
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from tests.support.fakes.fabric_channel import CHAINCODE, CHANNEL, MERCY, PATIENT, World
from tests.support.fakes.projection_followers import Service, Stream, entry, identity, receipt_of, record
from tests.support.waiting import until


async def test_a_committed_transaction_is_in_the_lists_and_announced_once(
    world: World, stream: Stream, service: Service
) -> None:
    service.project()
    service.publish()
    block = await world.commit_writes(entry("1") | record("r", 1) | identity("cb1x"))
    await until(lambda: stream.published)

    (message,) = stream.published
    assert message[0] == block.transactions[0].transaction_id
    assert message[1].tx_id == message[0]
    assert message[1].block == 1
    assert not message[1].entries
    assert not message[1].identities
    (told,) = (await service.told.page(1)).transactions
    assert [one.command_id for one in told.entries] == ["1"]
    assert [one.address for one in told.identities] == ["cb1x"]
    listed = await service.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT))
    assert [one.record_id for one in listed.records] == ["r"]
    receipt = await receipt_of(service.lists, "1", "s")
    assert receipt is not None
    assert (receipt.tx_id, receipt.block) == ("tx", 1)


async def test_invalid_transactions_and_other_chaincodes_leave_no_trace(
    world: World, stream: Stream, service: Service
) -> None:
    service.project()
    service.publish()
    await world.commit_writes(entry("conflicted"), code=fabric.MVCC_READ_CONFLICT)
    foreign = Action(
        "other",
        b"",
        200,
        b"",
        (Write(CHAINCODE, audit_key("foreign", "s"), b"x", deleted=False),),
        private=False,
    )
    world._add_block((BlockTransaction("t", CHANNEL, 1, MERCY, fabric.VALID, foreign),))
    await world.commit_writes(entry("good"))
    await until(lambda: stream.published)

    assert stream.blocks() == [3]
    assert await receipt_of(service.lists, "conflicted", "s") is None
    assert await receipt_of(service.lists, "foreign", "s") is None


def test_what_another_namespace_wrote_is_not_taken_for_ours() -> None:
    own = state_pb2.AuditEntry(command_id="2").SerializeToString()
    writes = (
        Write("other", audit_key("1", "s"), b"\xff", deleted=False),
        Write(CHAINCODE, audit_key("2", "s"), own, deleted=False),
    )
    action = Action(CHAINCODE, b"", 200, b"", writes, private=False)
    world = World()
    block = world._add_block((BlockTransaction("t", CHANNEL, 1, MERCY, fabric.VALID, action),))

    (transaction,) = committed(block, CHANNEL, CHAINCODE).transactions

    assert [entry.message.command_id for entry in transaction.facts.entries] == ["2"]


async def test_the_projection_keeps_up_while_nats_is_down_and_nothing_is_lost(
    world: World, stream: Stream, service: Service
) -> None:
    stream.down = True
    service.project()
    service.publish()
    for number in range(30):
        await world.commit_writes(entry(str(number)))
    assert await service.projection.wait_for(30, 5)
    assert stream.published == []
    assert await receipt_of(service.lists, "29", "s") is not None

    stream.down = False
    await until(lambda: len(stream.published) == 30)

    assert stream.blocks() == list(range(1, 31))


async def test_after_a_crash_between_projection_and_publication_the_event_is_still_sent(
    world: World, stream: Stream, tmp_path: Path
) -> None:
    file = tmp_path / "projection.db"
    async with Service(world, stream, file) as service:
        service.project()
        await world.commit_writes(entry("1"))
        assert await service.projection.wait_for(1, 5)
        await service.crash()

    async with Service(world, stream, file) as service:
        service.project()
        service.publish()
        await world.commit_writes(entry("2"))
        await until(lambda: len(stream.published) == 2)

    assert stream.blocks() == [1, 2]


async def test_after_a_crash_between_publication_and_checkpoint_the_event_repeats_with_its_id(
    world: World, stream: Stream, tmp_path: Path
) -> None:
    file = tmp_path / "projection.db"
    async with Service(world, stream, file) as service:
        service.project()

        real = service.projection.save_checkpoint

        async def crash_behind_block_1(name: str, checkpoint: Checkpoint) -> None:
            if checkpoint.next_block > 1:
                raise asyncio.CancelledError
            await real(name, checkpoint)

        service.projection.save_checkpoint = crash_behind_block_1  # type: ignore[method-assign]
        service.publish()
        await world.commit_writes(entry("1"))
        await until(lambda: stream.published)
        await service.crash()

    async with Service(world, stream, file) as service:
        service.project()
        service.publish()
        await until(lambda: len(stream.published) == 2)

    assert stream.published[0] == stream.published[1]


async def test_a_follower_goes_on_where_it_stopped(world: World, stream: Stream, tmp_path: Path) -> None:
    file = tmp_path / "projection.db"
    starts: list[int] = []
    real = world.blocks

    def spied(start: int):
        starts.append(start)
        return real(start)

    world.blocks = spied  # type: ignore[method-assign]
    for number in range(2):
        async with Service(world, stream, file) as service:
            service.project()
            await world.commit_writes(entry(str(number)))
            assert await service.projection.wait_for(len(world.chain) - 1, 5)

    assert starts == [0, 2]


async def test_a_service_that_starts_in_a_quiet_hour_does_not_look_behind(
    world: World, stream: Stream, tmp_path: Path
) -> None:
    file = tmp_path / "projection.db"
    async with Service(world, stream, file) as service:
        service.project()
        await world.commit_writes(entry("1"))
        assert await service.projection.wait_for(len(world.chain) - 1, 5)

    async with Service(world, stream, file) as service:

        def projected() -> float | None:
            return service.metrics.registry.get_sample_value("cbmdhi_ledger_projected_height_blocks")

        service.project()
        await until(lambda: projected() == len(world.chain))


async def test_a_projection_that_was_deleted_comes_back_the_same(
    world: World, stream: Stream, tmp_path: Path
) -> None:
    for number in range(5):
        await world.commit_writes(entry(str(number)) | record("r", number + 1) | identity(f"cb1{number}"))

    async def everything(file: Path) -> list[bytes]:
        async with Service(world, stream, file) as service:
            service.project()
            assert await service.projection.wait_for(5, 5)
            lists = service.lists
            return [
                (await lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT))).SerializeToString(),
                (
                    await lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, all_versions=True))
                ).SerializeToString(),
                (await lists.identities(ledger_pb2.ListIdentitiesRequest())).SerializeToString(),
            ]

    assert await everything(tmp_path / "one.db") == await everything(tmp_path / "two.db")


async def test_a_file_of_the_first_version_is_made_again_from_block_0_and_nothing_is_announced_twice(
    world: World, stream: Stream, tmp_path: Path
) -> None:
    for number in range(3):
        await world.commit_writes(entry(str(number)) | record("r", number + 1))
    last = world.chain[-1]
    old = Database(tmp_path / "old.db", MIGRATIONS[:1])
    async with old, old.transaction() as db:
        for name in (PROJECTION, PUBLICATION):
            await db.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (name, 4, last.header_hash))
        await db.execute("INSERT INTO record VALUES (7, 'stale', 1, ?, 'observations', x'')", (PATIENT,))
        await db.execute("INSERT INTO audit VALUES (7, 'stale', 's', ?, 1, x'')", (PATIENT,))

    async with Service(world, stream, tmp_path / "old.db") as service:
        service.project()
        service.publish()
        await world.commit_writes(entry("new"))
        await until(lambda: stream.published)
        listed = await service.lists.records(
            ledger_pb2.ListRecordsRequest(patient=PATIENT, all_versions=True)
        )
        trail = await service.lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT))

    assert [one.version for one in listed.records] == [3, 2, 1]
    assert [(one.entry.command_id, one.block) for one in trail.entries] == [
        ("0", 1),
        ("1", 2),
        ("2", 3),
        ("new", 4),
    ]
    assert stream.blocks() == [4]


async def test_a_block_that_does_not_follow_stops_the_follower(
    world: World, stream: Stream, tmp_path: Path
) -> None:
    file = tmp_path / "projection.db"
    async with Service(world, stream, file) as service:
        service.project()
        await world.commit_writes(entry("1"))
        assert await service.projection.wait_for(1, 5)

    other = World()
    await other.commit_writes(entry("other"))
    await other.commit_writes(entry("2"))
    async with Service(other, stream, file) as service:
        service.project()
        with pytest.raises(MeshError) as failure:
            await service.tasks[0]
        service.tasks = []
        assert await receipt_of(service.lists, "2", "s") is None

    assert failure.value.code == code_pb2.CODE_INTEGRITY


async def test_a_value_that_cannot_be_read_stops_the_follower_behind_the_blocks_before_it(
    world: World, service: Service
) -> None:
    await world.commit_writes(entry("1"))
    await world.commit_writes(entry("2") | {audit_key("3", "s"): b"\xff\xff"})
    service.project()
    with pytest.raises(MeshError) as failure:
        await service.tasks[0]
    service.tasks = []

    assert failure.value.code == code_pb2.CODE_INTEGRITY
    assert await receipt_of(service.lists, "1", "s") is not None
    assert await receipt_of(service.lists, "2", "s") is None
    assert (await service.projection.checkpoint(PROJECTION)).next_block == 2


async def test_blocks_that_wait_are_written_together_and_none_is_missing(
    world: World, stream: Stream, service: Service
) -> None:
    for number in range(40):
        await world.commit_writes(entry(str(number)))
    real, written = service.projection.apply, list[int]()

    async def spied(blocks: Sequence[CommittedBlock]) -> None:
        written.append(len(blocks))
        await real(blocks)

    service.projection.apply = spied  # type: ignore[method-assign]
    service.project()
    service.publish()
    await until(lambda: len(stream.published) == 40)

    assert sum(written) == 41
    assert len(written) < 30
    assert stream.blocks() == list(range(1, 41))


async def test_a_peer_that_refuses_is_asked_again(
    world: World, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = world.blocks, [404, 404]

    async def not_joined_yet(start: int):
        if refusals:
            raise fabric.BlockEventsError(refusals.pop(), "NOT_FOUND")
        async for block in real(start):
            yield block

    monkeypatch.setattr(world, "blocks", not_joined_yet)
    service.project()
    await world.commit_writes(entry("1"))

    assert await service.projection.wait_for(1, 10)


async def test_an_entry_that_is_written_again_keeps_its_place_and_block(
    world: World, service: Service
) -> None:
    service.project()
    await world.commit_writes(entry("glass", tx_id="first"))
    await world.commit_writes(entry("later"))
    await world.commit_writes(entry("glass", tx_id="first", reason="again"))
    assert await service.projection.wait_for(3, 5)

    listed = (await service.lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT))).entries

    assert [(one.entry.command_id, one.block, one.entry.reason) for one in listed] == [
        ("glass", 1, "again"),
        ("later", 2, ""),
    ]


async def test_the_lag_of_the_events_is_measured(world: World, stream: Stream, service: Service) -> None:
    stream.down = True
    service.project()
    service.publish()
    await world.commit_writes(entry("1"))

    def lag() -> float | None:
        return service.metrics.registry.get_sample_value("cbmdhi_ledger_publication_lag_blocks")

    await until(lambda: lag() == 1)
    stream.down = False
    await until(lambda: lag() == 0)
    assert (await service.projection.checkpoint(PUBLICATION)).next_block == 2


async def test_what_was_committed_is_told_by_whole_blocks_and_none_is_left_out(
    world: World, service: Service
) -> None:
    service.project()
    for number in range(150):
        await world.commit_writes(entry(str(number), reason="r" * (100_000 if number < 60 else 0)))
    assert await service.projection.wait_for(150, 10)

    commands: list[str] = []
    at, pages = 0, 0
    while (page := await service.told.page(at)).next_block > at:
        assert page.ByteSize() < 5 << 20
        commands += [one.command_id for told in page.transactions for one in told.entries]
        at, pages = page.next_block, pages + 1

    assert commands == [str(number) for number in range(150)]
    assert (at, pages) == (151, 3)


async def test_nothing_is_told_before_it_is_in_the_lists(world: World, service: Service) -> None:
    await world.commit_writes(entry("1"))

    page = await service.told.page(0)

    assert (page.next_block, len(page.transactions)) == (0, 0)


async def test_while_the_disk_is_full_both_followers_wait_and_go_on_when_there_is_room(
    world: World, stream: Stream, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    async def full(_: object) -> None:
        tried.set()
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "make room")

    service.project()
    service.publish()
    await world.commit_writes(entry("1"))
    await until(lambda: stream.published)
    monkeypatch.setattr(service.database, "write", full)
    await world.commit_writes(entry("2"))
    await tried.wait()
    assert stream.blocks() == [1]
    monkeypatch.undo()

    await until(lambda: stream.blocks() == [1, 2])
    assert not any(task.done() for task in service.tasks)
    assert (await receipt_of(service.lists, "2", "s")) is not None
