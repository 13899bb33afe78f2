"""Lists come a page at a time, and pages make the whole."""

import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import audit_key, record_key
from services.runtime.errors import MeshError
from tests.support.fakes.fabric_channel import MERCY, PATIENT
from tests.support.fakes.projection import Book
from tests.support.fakes.projection_followers import entry, identity, record


async def test_records_come_newest_first_and_each_once_by_its_latest_version(book: Book) -> None:
    await book.block(record("a", 1), record("b", 1))
    await book.block(record("a", 2))

    listed = (await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT))).records
    every = (
        await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, all_versions=True))
    ).records

    assert [(one.record_id, one.version) for one in listed] == [("a", 2), ("b", 1)]
    assert [(one.record_id, one.version) for one in every] == [("a", 2), ("b", 1), ("a", 1)]


async def test_records_are_narrowed_by_category(book: Book) -> None:
    await book.block(record("a", 1), record("b", 1, category="imaging"))

    listed = await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT, category="imaging"))

    assert [one.record_id for one in listed.records] == ["b"]


async def test_a_deleted_record_leaves_the_list(book: Book) -> None:
    await book.block(record("a", 1))
    await book.block({record_key("a", 1): None})

    assert await book.lists.latest_records(["a"]) == [None]


async def test_the_latest_version_of_each_of_many_records_is_found_at_once_in_the_order_asked(
    book: Book,
) -> None:
    await book.block(record("a", 1), record("b", 1))
    await book.block(record("a", 2))

    latest = await book.lists.latest_records(["b", "none", "a", "b"])

    assert [one and (one.record_id, one.version) for one in latest] == [
        ("b", 1),
        None,
        ("a", 2),
        ("b", 1),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
async def test_pages_of_any_size_make_the_whole_audit_trail(book: Book, size: int) -> None:
    for number in range(7):
        await book.block(entry(str(number)))

    seen = await book.trail(PATIENT, size)

    assert [one.entry.command_id for one in seen] == [str(number) for number in range(7)]


async def test_pages_of_records_and_identities_end(book: Book) -> None:
    for number in range(5):
        await book.block(record(f"r{number}", 1), identity(f"cb1{number}"))
    records = ledger_pb2.ListRecordsRequest(patient=PATIENT, page_size=2)
    identities = ledger_pb2.ListIdentitiesRequest(page_size=2)
    seen_records: list[str] = []
    seen_identities: list[str] = []
    for _ in range(3):
        page = await book.lists.records(records)
        seen_records += [one.record_id for one in page.records]
        records.page_token = page.next_page_token
        other = await book.lists.identities(identities)
        seen_identities += [one.address for one in other.identities]
        identities.page_token = other.next_page_token

    assert seen_records == ["r4", "r3", "r2", "r1", "r0"]
    assert seen_identities == [f"cb1{number}" for number in range(5)]
    assert records.page_token == identities.page_token == ""


async def test_an_audit_trail_holds_nobody_elses_entries_and_the_own_registration(book: Book) -> None:
    registration = state_pb2.AuditEntry(command_id="reg", signer="s", action="register", subject=PATIENT)
    await book.block(entry("mine"), entry("another's", patient="cb1other"))
    await book.block({audit_key("reg", "s"): registration.SerializeToString()})

    listed = (await book.lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT))).entries

    assert [one.entry.command_id for one in listed] == ["mine", "reg"]


async def test_identities_are_found_by_role_status_and_home_as_they_are_now(book: Book) -> None:
    await book.block(identity("cb1a"), identity("cb1b"))
    await book.block(identity("cb1a", state_pb2.IDENTITY_STATUS_SUSPENDED))

    async def found(**narrowed: object) -> list[str]:
        page = await book.lists.identities(ledger_pb2.ListIdentitiesRequest(**narrowed))  # type: ignore[arg-type]
        return [one.address for one in page.identities]

    assert await found() == ["cb1a", "cb1b"]
    assert await found(status=state_pb2.IDENTITY_STATUS_SUSPENDED) == ["cb1a"]
    assert await found(role=command_pb2.ROLE_PATIENT, home_msp=MERCY) == ["cb1a", "cb1b"]
    assert await found(role=command_pb2.ROLE_CLINICIAN) == []
    assert await found(home_msp="LakesideMSP") == []


async def test_the_writer_key_is_that_of_the_highest_epoch(book: Book) -> None:
    await book.block(record("a", 2))
    await book.block(record("b", 1))

    found = await book.lists.writer_keys(MERCY, ["cb1other", PATIENT])

    assert {patient: key.epoch for patient, key in found.items()} == {PATIENT: 2}
    assert await book.lists.writer_keys("LakesideMSP", [PATIENT]) == {}


@pytest.mark.parametrize("token", ["%", "bm90IGEgbnVtYmVy", "a", "wrI=", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"])
async def test_a_page_token_that_is_none_of_ours_is_refused(book: Book, token: str) -> None:
    with pytest.raises(MeshError) as failure:
        await book.lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT, page_token=token))

    assert failure.value.code == code_pb2.CODE_INVALID
    assert failure.value.path == "page_token"


async def test_blocks_written_together_leave_the_same_as_one_after_the_other(book: Book) -> None:
    await book.blocks(
        [record("a", 1), entry("glass", tx_id="first")],
        [record("a", 1, category="imaging"), entry("later"), identity("cb1x")],
        [entry("glass", tx_id="first", reason="reviewed")],
    )

    trail = (await book.lists.audit(ledger_pb2.ListAuditRequest(patient=PATIENT))).entries
    (listed,) = (await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT))).records
    assert [(one.entry.command_id, one.block, one.entry.reason) for one in trail] == [
        ("glass", 0, "reviewed"),
        ("later", 1, ""),
    ]
    assert listed.category == "imaging"
    assert await book.projection.blocks_of(["tx 0", "tx 2"]) == {"tx 0": 0, "tx 2": 2}
    assert book.projection.next_block == 3


async def test_a_record_that_is_dropped_and_written_again_is_there(book: Book) -> None:
    await book.blocks([record("a", 1)], [{record_key("a", 1): None}], [record("a", 1, category="imaging")])

    (listed,) = (await book.lists.records(ledger_pb2.ListRecordsRequest(patient=PATIENT))).records
    assert listed.category == "imaging"


async def test_more_entries_than_fit_one_statement_are_all_there(book: Book) -> None:
    await book.blocks(*([entry(f"{block}-{number:03}") for number in range(70)] for block in range(3)))

    request = ledger_pb2.ListAuditRequest(patient=PATIENT, page_size=500)
    trail = (await book.lists.audit(request)).entries
    assert [one.entry.command_id for one in trail] == [
        f"{block}-{number:03}" for block in range(3) for number in range(70)
    ]
