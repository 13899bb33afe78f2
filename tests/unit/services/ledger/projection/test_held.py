"""What storage asks about the batches that it holds: which of their contents the channel names."""

from collections.abc import Sequence

import pytest

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import cid
from cbmdhi.protocol.state_keys import epoch_key, record_key
from services.runtime.errors import MeshError
from tests.support.fakes.projection import Book
from tests.support.fakes.projection_followers import entry, identity, record

ROOTS = [
    cid.from_bytes(cid.batch_root([cid.binary(cid.RAW, name)]).cid) for name in (b"one", b"two", b"three")
]


def named(record_id: str, root_cid: str) -> dict[str, bytes]:
    """A record's entry on the channel, its content in a batch."""
    [(key, value)] = record(record_id, 1).items()
    document = state_pb2.RecordVersion.FromString(value)
    document.content.cid = cid.raw(record_id.encode())
    document.content.root_sha256 = cid.digest(root_cid)
    return {key: document.SerializeToString()}


def registered(address: str, evidence_cid: str) -> dict[str, bytes]:
    [(key, value)] = identity(address).items()
    document = state_pb2.IdentityDocument.FromString(value)
    document.evidence_cid = evidence_cid
    return {key: document.SerializeToString()}


async def asked(book: Book, *batches: tuple[str, Sequence[str]]) -> ledger_pb2.GetCommittedContentsResponse:
    held = [
        ledger_pb2.HeldBatch(
            root_cid=root,
            commands=[ledger_pb2.GetReceiptRequest(command_id=one, signer="s") for one in commands],
        )
        for root, commands in batches
    ]
    return await book.lists.committed_contents(held)


async def test_what_the_channel_names_of_each_batch_comes_in_the_order_of_asking(book: Book) -> None:
    await book.block(named("a", ROOTS[0]), named("b", ROOTS[1]))
    await book.block(named("c", ROOTS[0]), record("no root", 1))

    answer = await asked(book, (ROOTS[1], ()), (ROOTS[2], ()), (ROOTS[0], ()))

    assert [sorted(one.cids) for one in answer.batches] == [
        [cid.raw(b"b")],
        [],
        sorted((cid.raw(b"a"), cid.raw(b"c"))),
    ]


async def test_a_record_that_is_deleted_is_named_no_more(book: Book) -> None:
    await book.block(named("a", ROOTS[0]))
    await book.block({record_key("a", 1): None})

    assert not (await asked(book, (ROOTS[0], ()))).batches[0].cids


async def test_evidence_is_named_by_the_registration_that_has_it(book: Book) -> None:
    kept, other = cid.raw(b"evidence"), cid.raw(b"other")
    await book.block(registered("cb1a", kept))

    answer = await asked(book, (other, ()), (kept, ()))

    assert [list(one.cids) for one in answer.batches] == [[], [kept]]


async def test_a_record_that_is_its_own_root_is_named(book: Book) -> None:
    alone = cid.raw(b"a")
    await book.block(named("a", alone))

    assert list((await asked(book, (alone, ()))).batches[0].cids) == [alone]


async def test_which_commands_are_decided_and_how_far_the_channel_is(book: Book) -> None:
    assert (await asked(book, (ROOTS[0], ["1"]))).channel_time_ms == 0
    for number, at_ms in (("1", 5_000), ("2", 7_000)):
        [(key, value)] = entry(number).items()
        document = state_pb2.AuditEntry.FromString(value)
        document.at_ms = at_ms
        await book.block({key: document.SerializeToString()})

    answer = await asked(book, (ROOTS[0], ["2", "3"]), (ROOTS[1], ["1"]))

    assert [list(one.decided) for one in answer.batches] == [[True, False], [True]]
    assert answer.channel_time_ms == 7_000


async def test_minutes_that_are_told_move_the_channels_time_while_nobody_commits_a_command(
    book: Book,
) -> None:
    await book.block({epoch_key(1): state_pb2.Epoch(number=1_000).SerializeToString()})
    assert (await asked(book, (ROOTS[0], ["1"]))).channel_time_ms == 1_000 * 60_000

    [(key, value)] = entry("1").items()
    document = state_pb2.AuditEntry.FromString(value)
    document.at_ms = 1_000 * 60_000 + 5_000
    await book.block({key: document.SerializeToString()})
    assert (await asked(book, (ROOTS[0], ["1"]))).channel_time_ms == document.at_ms


async def test_a_root_that_is_no_cid_is_refused(book: Book) -> None:
    with pytest.raises(MeshError) as failure:
        await asked(book, ("a root", ()))

    assert failure.value.code == code_pb2.CODE_INVALID
