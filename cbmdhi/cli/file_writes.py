"""What a file asks to be written, sent as it asks: each record by itself, or all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from google.protobuf.message import Message

from cbmdhi.client import Client
from cbmdhi.client.commands import submit_group
from cbmdhi.client.records import NewRecord, Prepared, Written
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, Misuse, NotCommitted, NotSent, UnknownOutcome, to_be_sent
from cbmdhi.fhir import Writes
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command

# Records that are signed before anything else has a turn.
_TURN = 100
Result = tuple[Written, Prepared | None]
"""What became of a record, and what was signed, where it can be sent again by itself."""

_NOTHING_OF_IT = "nothing of the transaction was written: another entry of it says why"


async def write(client: Client, writes: Writes, heard: list[Result] | None = None) -> list[Result]:
    """What became of each that was asked, in order. Raises MeshError for all of it as one.

    heard  what became of those that have a result, as it comes: also when it is cut off
    """
    if writes.together:
        return [(one, None) for one in await _together(client, writes.records)]
    written = iter(await _each(client, writes.records, [] if heard is None else heard))
    return [_refused(one) if isinstance(one, Misuse) else next(written) for one in writes.asked]


def _refused(why: Misuse) -> Result:
    return Written(NewRecord("", b"", ""), RecordReceipt(), why), None


async def _together(client: Client, records: Sequence[NewRecord]) -> list[Written]:
    """As one group. Of a refusal the entry that is to blame says why."""
    group, contents = client.records.prepare_together(records)
    try:
        told = await submit_group(client.connection, group, contents)
    except NotCommitted as error:
        why = error.receipt
        ids = [command.parse(signed)[0].command_id for signed in group.commands]
        return [
            Written(record, RecordReceipt(receipt=_of_refused(why, command_id)))
            for record, command_id in zip(records, ids, strict=True)
        ]
    return [Written(record, entry) for record, entry in zip(records, told, strict=True)]


def _of_refused(why: Receipt, command_id: str) -> Receipt:
    """The receipt of a command of a group that was refused for that reason."""
    if command_id == why.command_id:
        return why
    receipt = Receipt()
    receipt.CopyFrom(why)
    receipt.command_id, receipt.code = command_id, code_pb2.CODE_GROUP_REFUSED
    receipt.reason, receipt.path = _NOTHING_OF_IT, ""
    return receipt


async def _each(client: Client, records: Sequence[NewRecord], heard: list[Result]) -> list[Result]:
    """By themselves. A stream that broke takes nothing from what has a result."""
    results: dict[str, Written] = {}
    prepared: dict[str, Prepared] = {}
    for place, record in enumerate(records):
        if place % _TURN == 0:
            await asyncio.sleep(0)  # for Ctrl-C
        try:
            prepared[record.record_id] = client.records.prepare(record)
        except MeshError as error:
            results[record.record_id] = Written(record, RecordReceipt(), error)
    try:
        async for entry in client.records.send(list(prepared.values())):
            results[entry.record.record_id] = entry
            heard.append((entry, prepared[entry.record.record_id]))
    except (NotSent, UnknownOutcome) as error:
        if not results:
            raise
        for record_id, one in prepared.items():
            results.setdefault(record_id, Written(one.record, RecordReceipt(), to_be_sent(error, [one.item])))
    except asyncio.CancelledError:
        # The others are under way, and kept by whoever sends them.
        client.connection.on_cut([again for entry in results.values() for again in _open_of(entry)])
        raise
    return [(results[record.record_id], prepared.get(record.record_id)) for record in records]


def _open_of(entry: Written) -> Sequence[Message]:
    return entry.error.again if isinstance(entry.error, UnknownOutcome) else ()
