"""Each person's rows are linked: lists follow the links, whoever's rows lie in between."""

import random
from collections import defaultdict

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import record_key
from services.runtime.errors import MeshError
from tests.support.fakes.fabric_channel import PATIENT
from tests.support.fakes.projection import Book, Writes
from tests.support.fakes.projection_followers import entry, receipt_of, record

OTHER = "cb1other"


@pytest.mark.parametrize("size", [1, 9, 31, 32, 33, 100])
async def test_many_people_s_lists_hold_their_own_rows_in_order_at_any_page_size(
    book: Book, size: int
) -> None:
    chance = random.Random(size)  # noqa: S311 — a test's
    people = [f"cb1{number}" for number in range(6)]
    records, trails = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    numbers = iter(range(600))
    for _ in range(20):
        blocks: list[list[Writes]] = []
        for _ in range(chance.randint(1, 3)):
            block: list[Writes] = []
            for number in [next(numbers) for _ in range(chance.randint(0, 9))]:
                whom = chance.choice(people)
                block += [record(f"r{number}", 1, patient=whom), entry(f"c{number}", patient=whom)]
                records[whom].insert(0, f"r{number}")
                trails[whom].append(f"c{number}")
            blocks.append(block)
        await book.blocks(*blocks)

    for whom in people:
        assert [one.record_id for one in await book.chart(whom, size)] == records[whom]
        assert [one.entry.command_id for one in await book.trail(whom, size)] == trails[whom]


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 200])
async def test_a_long_trail_is_whole_and_in_order_at_any_page_size(book: Book, size: int) -> None:
    for part in range(10):
        await book.block(*(entry(f"{part}-{number:02}") for number in range(13)), entry("x", patient=OTHER))

    seen = [one.entry.command_id for one in await book.trail(PATIENT, size)]

    assert seen == [f"{part}-{number:02}" for part in range(10) for number in range(13)]


async def test_a_page_costs_the_same_at_both_ends_of_a_long_list_and_of_a_short_one(book: Book) -> None:
    async def work(patient: str, count: int) -> list[int]:
        """Instructions of SQLite's machine, in tens, for each page of both lists."""
        spent: list[int] = []
        db = book.lists._database._reader
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        audit = ledger_pb2.ListAuditRequest(patient=patient, page_size=10)
        records = ledger_pb2.ListRecordsRequest(patient=patient, page_size=10)
        await db.set_progress_handler(step, 10)
        for _ in range(count // 10):
            steps = 0
            audit.page_token = (await book.lists.audit(audit)).next_page_token
            spent.append(steps)
            steps = 0
            records.page_token = (await book.lists.records(records)).next_page_token
            spent.append(steps)
        await db.set_progress_handler(lambda: 0, 0)
        return spent

    for number in range(1_000):
        await book.block(entry(f"c{number}"), record(f"r{number}", 1))
    for number in range(40):
        await book.block(entry(f"d{number}", patient=OTHER), record(f"s{number}", 1, patient=OTHER))

    long, short = await work(PATIENT, 1_000), await work(OTHER, 40)

    assert max(long) <= 2 * max(short)


async def test_a_deleted_record_does_not_hide_the_ones_before_it(book: Book) -> None:
    for name in "abcd":
        await book.block(record(name, 1))
    first = await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, page_size=1))
    await book.block({record_key("c", 1): None, record_key("d", 1): None})

    behind = ledger_pb2.ListRecordsRequest(patient=PATIENT, page_token=first.next_page_token)

    assert [one.record_id for one in await book.chart(PATIENT, 1)] == ["b", "a"]
    assert [one.record_id for one in (await book.lists.records(behind)).records] == ["b", "a"]


async def test_a_deleted_record_that_is_written_again_is_the_newest(book: Book) -> None:
    await book.block(record("a", 1))
    await book.block(record("b", 1))
    await book.block({record_key("a", 1): None})
    await book.block(record("a", 1))

    assert [one.record_id for one in await book.chart(PATIENT, 1)] == ["a", "b"]


async def test_a_version_that_is_written_again_keeps_its_place_and_is_there_once(book: Book) -> None:
    await book.block(record("a", 1), record("b", 1))
    await book.block(record("a", 1, category="imaging"), record("c", 1))

    chart = await book.chart(PATIENT, 2)

    assert [(one.record_id, one.category) for one in chart] == [
        ("c", "observations"),
        ("b", "observations"),
        ("a", "imaging"),
    ]


async def test_pages_of_one_category_leave_out_what_lies_between(book: Book) -> None:
    for number in range(10):
        await book.block(record(str(number), 1, category="imaging" if number % 3 == 0 else "observations"))

    chart = await book.chart(PATIENT, 2, category="imaging")

    assert [one.record_id for one in chart] == ["9", "6", "3", "0"]


async def test_an_entry_is_its_signer_s_receipt_and_in_the_patient_s_trail(book: Book) -> None:
    await book.block(entry("1"), entry("2", patient="s"), entry("3", patient=""))

    assert [one.entry.command_id for one in await book.trail("s", 10)] == ["2"]
    for command_id in "123":
        receipt = await receipt_of(book.lists, command_id, "s")
        assert receipt is not None
        assert receipt.block == 0
    assert await receipt_of(book.lists, "1", PATIENT) is None
    assert await receipt_of(book.lists, "1", "cb1nobody") is None


async def test_a_token_of_another_person_s_list_is_refused(book: Book) -> None:
    await book.block(*(record(name, 1) for name in "ab"), *(entry(name) for name in "ab"))
    await book.block(record("c", 1, patient=OTHER), entry("c", patient=OTHER))
    of_records = await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, page_size=1))
    of_audit = await book.lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT, page_size=1))

    with pytest.raises(MeshError) as records:
        await book.lists.records(
            ledger_pb2.ListRecordsRequest(patient=OTHER, page_token=of_records.next_page_token)
        )
    with pytest.raises(MeshError) as audit:
        await book.lists.audit(
            ledger_pb2.ListAuditRequest(patient=OTHER, page_token=of_audit.next_page_token)
        )

    assert records.value.code == audit.value.code == code_pb2.CODE_INVALID


async def test_the_page_behind_the_oldest_record_is_empty(book: Book) -> None:
    await book.block(record("a", 1))
    await book.block(record("b", 1))
    token = (
        await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, page_size=1))
    ).next_page_token
    await book.block({record_key("a", 1): None})

    behind = await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, page_token=token))
    # The oldest is row 1.
    of_the_oldest = await book.lists.records(
        ledger_pb2.ListRecordsRequest(patient=PATIENT, page_token="MQ==")
    )

    assert [*behind.records, *of_the_oldest.records] == []


async def test_people_nobody_wrote_about_have_empty_lists(book: Book) -> None:
    await book.block(record("a", 1), entry("a"))

    assert await book.chart("cb1nobody", 10) == []
    assert await book.trail("cb1nobody", 10) == []
