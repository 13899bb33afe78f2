"""A streamed record is told to be written by its own receipt alone, and verified by what was signed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from cbmdhi.client import Client
from cbmdhi.client.connection import Connection
from cbmdhi.client.ingest_entries import Entry
from cbmdhi.client.records import NewRecord, Prepared, Records, Written
from cbmdhi.client.trail import Trail
from cbmdhi.client.written import written_of
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import AuditEntry, StoredContent
from cbmdhi.errors import NotCommitted, UnknownOutcome, Unproven
from cbmdhi.gateway.v1.gateway_pb2 import IngestResult, RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from cbmdhi.verify import verify_receipt, verify_receipts
from tests.unit.cbmdhi.client.test_receipts import ProvingGateway, refused

OK, COMMITTED = code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED


def prepared(gateway: ProvingGateway) -> Prepared:
    record = NewRecord(gateway.wallet.address, b'{"resourceType":"Observation"}')
    return Records(cast(Connection, gateway)).prepare(record)


def receipt_of(one: Prepared, code: int = OK, outcome: int = COMMITTED) -> Receipt:
    [signed] = one.item.group.commands
    return Receipt(
        command_id=command.parse(signed)[0].command_id,
        signer=signed.signer,
        code=code,  # pyright: ignore[reportArgumentType]
        outcome=outcome,  # pyright: ignore[reportArgumentType]
        tx_id="ab" * 32,
    )


def heard(one: Prepared, *told: Receipt) -> Written:
    """What the client makes of these receipts as the answer."""
    item = one.item
    entry: Entry[NewRecord | Prepared] = Entry(item.submission_id, b"", one)
    receipts = [RecordReceipt(receipt=receipt) for receipt in told]
    return written_of(entry, IngestResult(submission_id=item.submission_id, receipts=receipts))


def no_receipt(mine: Receipt) -> list[Receipt]:
    return []


def three_receipts(mine: Receipt) -> list[Receipt]:
    return [mine] * 3


def of_another_command(mine: Receipt) -> list[Receipt]:
    mine.command_id = uuid7()
    return [mine]


def of_another_signer(mine: Receipt) -> list[Receipt]:
    mine.signer = "cb1somebody"
    return [mine]


def of_another_hash(mine: Receipt) -> list[Receipt]:
    mine.command_sha256 = bytes(32)
    return [mine]


def done_and_not_done(mine: Receipt) -> list[Receipt]:
    mine.outcome = code_pb2.OUTCOME_NOT_DONE
    return [mine]


def done_and_unknown(mine: Receipt) -> list[Receipt]:
    mine.outcome = code_pb2.OUTCOME_UNKNOWN
    return [mine]


def done_and_silent(mine: Receipt) -> list[Receipt]:
    mine.ClearField("outcome")
    return [mine]


def committed_and_no_verdict(mine: Receipt) -> list[Receipt]:
    mine.ClearField("code")
    return [mine]


def committed_and_unknown(mine: Receipt) -> list[Receipt]:
    mine.code = code_pb2.CODE_UNKNOWN_OUTCOME
    return [mine]


def words_of_another_version(mine: Receipt) -> list[Receipt]:
    mine.MergeFromString(b"\x10\x63\x50\x63")
    return [mine]


LIES = [
    *(no_receipt, three_receipts, of_another_command, of_another_signer, of_another_hash),
    *(done_and_not_done, done_and_unknown, done_and_silent),
    *(committed_and_no_verdict, committed_and_unknown, words_of_another_version),
]


@pytest.mark.parametrize("lie", LIES, ids=lambda one: one.__name__)
async def test_what_is_no_receipt_of_this_record_writes_nothing_and_gives_back_what_was_signed(
    lie: Callable[[Receipt], list[Receipt]],
) -> None:
    one = prepared(ProvingGateway())
    written = heard(one, *lie(receipt_of(one)))
    assert isinstance(written.error, Unproven)
    assert written.error.again == (one.item,)
    with pytest.raises(Unproven):
        _ = written.receipt


async def test_an_error_that_says_ok_is_no_success_and_no_refusal() -> None:
    one = prepared(ProvingGateway())
    entry: Entry[NewRecord | Prepared] = Entry(one.item.submission_id, b"", one)
    told = IngestResult(error=code_pb2.ErrorDetail(code=OK, outcome=COMMITTED))
    assert isinstance(written_of(entry, told).error, Unproven)


async def test_its_own_receipt_writes_a_record_and_its_own_refusal_refuses_it() -> None:
    one = prepared(ProvingGateway())
    assert heard(one, receipt_of(one)).ok
    refusal = heard(one, receipt_of(one, code_pb2.CODE_FORBIDDEN))
    assert isinstance(refusal.error, NotCommitted)
    open_still = heard(one, receipt_of(one, code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN))
    assert isinstance(open_still.error, UnknownOutcome)


async def test_a_record_that_is_put_together_by_hand_of_a_contradiction_is_not_written() -> None:
    one = prepared(ProvingGateway())
    told = RecordReceipt(receipt=receipt_of(one, outcome=code_pb2.OUTCOME_NOT_DONE))
    assert isinstance(Written(one.record, told).error, Unproven)


def elsewhere(gateway: ProvingGateway) -> Client:
    """A client at an honest member."""
    return cast(Client, SimpleNamespace(wallet=gateway.wallet, trail=Trail(gateway.connection)))


async def carried(gateway: ProvingGateway) -> tuple[Prepared, Written]:
    """A record that the channel has decided, and what the client heard: that it is written."""
    one = prepared(gateway)
    [signed] = one.item.group.commands
    gateway._carry(signed)
    written = heard(one, receipt_of(one))
    assert written.ok
    return one, written


def failed(verification: object) -> list[str]:
    return [check.name for check in verification.checks if not check.ok]  # type: ignore[attr-defined]


# The fake holds no version of a record beside the verdict; what is said of contents is another test's.
def _verdict_alone(names: list[str]) -> list[str]:
    return [name for name in names if name != "content"]


async def test_what_was_written_is_verified_by_what_was_signed() -> None:
    gateway = ProvingGateway()
    _, written = await carried(gateway)
    [found] = await verify_receipts(elsewhere(gateway), [written])
    assert _verdict_alone(failed(found)) == []
    assert {"command", "verdict", "transaction"} <= {check.name for check in found.checks if check.ok}
    assert found.unchecked == []


async def test_a_receipt_that_says_ok_of_what_the_channel_refused_does_not_verify() -> None:
    gateway = ProvingGateway(decides=refused)
    one, written = await carried(gateway)
    client, told = elsewhere(gateway), receipt_of(one)
    [found] = await verify_receipts(client, [written])
    [by_receipt] = await verify_receipts(client, [told])
    by_ids = await verify_receipt(client, told.tx_id, told.command_id, told.signer, told=told)
    for each in (found, by_receipt, by_ids):
        assert failed(each) == ["verdict"]
    [detail] = [check.detail for check in found.checks if check.name == "verdict"]
    assert "says OK" in detail
    assert "FORBIDDEN: not yours" in detail


async def test_a_refusal_that_stands_as_it_was_told_verifies_whatever_its_code() -> None:
    def conflict(entry: AuditEntry) -> None:
        entry.code = code_pb2.CODE_CONFLICT

    gateway = ProvingGateway(decides=conflict)
    one, _ = await carried(gateway)
    [found] = await verify_receipts(elsewhere(gateway), [receipt_of(one, code_pb2.CODE_CONFLICT)])
    assert found.ok


async def test_another_command_under_the_same_id_does_not_verify_what_was_signed() -> None:
    gateway = ProvingGateway()
    one = prepared(gateway)
    [signed] = one.item.group.commands
    other = command.body_of(prepared(gateway).item.group.commands[0])[1]
    command_id = command.parse(signed)[0].command_id
    channel = gateway.wallet.consortium.signed_channel
    gateway._carry(gateway.wallet.sign_command(command.make(other, channel=channel, command_id=command_id)))
    [found] = await verify_receipts(elsewhere(gateway), [heard(one, receipt_of(one))])
    assert _verdict_alone(failed(found)) == ["command"]


async def test_a_receipt_of_another_record_does_not_verify_this_one() -> None:
    gateway = ProvingGateway()
    first, _ = await carried(gateway)
    second, written = await carried(gateway)
    swapped = Written(second.record, RecordReceipt(receipt=receipt_of(first)), signed=written.signed)
    [found] = await verify_receipts(elsewhere(gateway), [swapped])
    assert _verdict_alone(failed(found)) == ["command"]


async def test_a_receipt_that_contradicts_itself_or_names_nothing_does_not_verify() -> None:
    gateway = ProvingGateway()
    one, _ = await carried(gateway)
    not_done = receipt_of(one, outcome=code_pb2.OUTCOME_NOT_DONE)
    [found] = await verify_receipts(elsewhere(gateway), [not_done])
    assert _verdict_alone(failed(found)) == ["verdict"]
    [of_nothing] = await verify_receipts(elsewhere(gateway), [heard(one)])
    assert failed(of_nothing) == ["receipt"]


async def test_without_what_was_signed_it_is_said_what_was_not_compared() -> None:
    gateway = ProvingGateway()
    one, _ = await carried(gateway)
    told = receipt_of(one)
    [found] = await verify_receipts(elsewhere(gateway), [told])
    assert [line for line in found.unchecked if "what was signed" in line]
    by_ids = await verify_receipt(elsewhere(gateway), told.tx_id, told.command_id, told.signer)
    assert len(by_ids.unchecked) == 2


async def test_a_receipt_that_names_another_content_than_is_committed_does_not_verify() -> None:
    gateway = ProvingGateway()
    author = gateway.committed.people[0]
    record = gateway.committed.put(author, bytes(32), stored=StoredContent(cid="one"))
    signed = gateway.committed.commands[record.command_id]
    told = Receipt(
        command_id=record.command_id, signer=author.address, tx_id=record.tx_id, code=OK, outcome=COMMITTED
    )
    for cid, ends in (("one", []), ("another", ["content"])):
        entry = RecordReceipt(receipt=told, stored=StoredContent(cid=cid))
        written = Written(NewRecord("", b""), entry, signed=signed)
        [found] = await verify_receipts(elsewhere(gateway), [written])
        assert failed(found) == ends
