"""What became of a record that was sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cbmdhi.client.ingest_entries import Entry
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, NotCommitted, of_detail, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2

if TYPE_CHECKING:
    from cbmdhi.client.new_record import NewRecord, Prepared


@dataclass(frozen=True)
class Written:
    """What became of a record, as the gateway says. Of one that was not written `receipt` raises, so that
    nobody takes a refusal for a receipt.

    error  None when it is committed; NotCommitted when the channel or the gateway refused it; NotSent or
           UnknownOutcome, which hold what was signed, to be sent again as it is (`client.resend`)

        async for written in engine.records.send(records):
            if written.ok:
                print(written.tx_id)
            else:
                print(written.record.record_id, written.error)
    """

    record: NewRecord
    told: gateway_pb2.RecordReceipt
    """What the gateway told, of a refusal too. Empty when it told nothing."""

    error: MeshError | None = None

    def __post_init__(self) -> None:
        """What was told to be refused has an error, whoever puts it together."""
        if self.error is None and self.told.receipt.code != code_pb2.CODE_OK:
            object.__setattr__(self, "error", NotCommitted(self.told.receipt))

    @property
    def ok(self) -> bool:
        """True when it is committed."""
        return self.error is None

    @property
    def receipt(self) -> gateway_pb2.RecordReceipt:
        """The receipt, with where the content is stored. Raises `error` unless it is committed."""
        if self.error is not None:
            raise self.error
        return self.told

    @property
    def tx_id(self) -> str:
        """The Fabric transaction that holds it. Raises `error`."""
        return self.receipt.receipt.tx_id

    @property
    def command_id(self) -> str:
        """Under which `cbmdhi verify` and `verify_receipts` find it. Raises `error`."""
        return self.receipt.receipt.command_id

    @property
    def cid(self) -> str:
        """Under which the encrypted content lies in IPFS. Raises `error`."""
        return self.receipt.stored.cid


def written_of(entry: Entry[NewRecord | Prepared], result: gateway_pb2.IngestResult | None) -> Written:
    """A result speaks of its own sending alone: one before it, by a stream that broke, may have done it."""
    nothing = gateway_pb2.RecordReceipt()
    if result is None:
        record = cast("NewRecord", getattr(entry.what, "record", entry.what))
        return Written(record, nothing, entry.refused)
    prepared = cast("Prepared", entry.what)
    record, item = prepared.record, prepared.item
    if result.HasField("error"):
        ours = of_detail(result.error)
        if ours.nothing_done and entry.may_be_done:
            ours.outcome = code_pb2.OUTCOME_UNKNOWN
        return Written(record, nothing, to_be_sent(ours, [item]))
    told = result.receipts[0]
    receipt = told.receipt
    if receipt.outcome == code_pb2.OUTCOME_NOT_DONE and entry.may_be_done:
        receipt.outcome = code_pb2.OUTCOME_UNKNOWN
    certain = (code_pb2.OUTCOME_COMMITTED, code_pb2.OUTCOME_NOT_DONE)
    if receipt.code == code_pb2.CODE_OK or receipt.outcome in certain:
        return Written(record, told)
    why = MeshError(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
    return Written(record, told, to_be_sent(why, [item]))
