"""What a file asks to be written is sent as it asks, and each entry hears what became of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from cbmdhi.cli import file_writes
from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared, Written
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Command, CommandGroup, SignedCommand
from cbmdhi.errors import MeshError, Misuse, NotCommitted, UnknownOutcome
from cbmdhi.fhir import Writes
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import Receipt

RECORDS = [NewRecord("cb1patient", b"{}", f"record-{number}") for number in range(3)]


def receipt(code: int = code_pb2.CODE_OK, **fields: Any) -> Receipt:
    return Receipt(**{"code": code, "outcome": code_pb2.OUTCOME_COMMITTED} | fields)  # type: ignore[arg-type]


class FakeRecords:
    """Signs and sends nothing."""

    def __init__(self) -> None:
        self.streamed: list[str] = []

    def prepare_together(self, records: list[NewRecord]) -> tuple[CommandGroup, list[Any]]:
        commands = [Command(command_id=record.record_id).SerializeToString() for record in records]
        return CommandGroup(commands=[SignedCommand(command=raw) for raw in commands]), []

    def prepare(self, record: NewRecord) -> Prepared:
        return Prepared(record, IngestItem(submission_id=record.record_id))

    async def send(self, prepared: list[Prepared]) -> Any:
        for one in reversed(prepared):
            self.streamed.append(one.record.record_id)
            yield Written(one.record, RecordReceipt(receipt=receipt()))


def client(records: FakeRecords) -> Client:
    return cast(Client, SimpleNamespace(records=records, connection=None))


async def test_of_a_refused_transaction_the_entry_to_blame_says_why_and_none_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refusing(*_: object) -> Any:
        why = receipt(code_pb2.CODE_INVALID, command_id="record-1", reason="no", path="Observation.status")
        raise NotCommitted(why)

    monkeypatch.setattr(file_writes, "submit_group", refusing)
    found = await file_writes.write(client(FakeRecords()), Writes(True, tuple(RECORDS)))
    assert [one.record.record_id for one, _ in found] == ["record-0", "record-1", "record-2"]
    codes = [code_pb2.Code.Name(one.told.receipt.code) for one, _ in found]
    assert codes == ["CODE_GROUP_REFUSED", "CODE_INVALID", "CODE_GROUP_REFUSED"]
    assert not any(one.ok for one, _ in found)
    assert [one.told.receipt.path for one, _ in found] == ["", "Observation.status", ""]


async def test_a_transaction_of_which_nothing_is_known_leaves_all_of_it_to_be_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def lost(*_: object) -> Any:
        raise UnknownOutcome(MeshError(code_pb2.CODE_UNAVAILABLE, "lost"), [CommandGroup()])

    monkeypatch.setattr(file_writes, "submit_group", lost)
    with pytest.raises(UnknownOutcome):
        await file_writes.write(client(FakeRecords()), Writes(True, tuple(RECORDS)))


async def test_an_entry_of_a_batch_that_cannot_be_takes_none_of_the_others_with_it() -> None:
    records = FakeRecords()
    asked = (RECORDS[0], Misuse("not that", "Bundle.entry[1]"), RECORDS[2])
    found = await file_writes.write(client(records), Writes(False, asked))
    assert [one.ok for one, _ in found] == [True, False, True]
    assert [one.record.record_id for one, _ in found] == ["record-0", "", "record-2"]
    assert found[1][0].error is asked[1]
    assert records.streamed == ["record-2", "record-0"]
