"""What became of a record that was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, cast

from cbmdhi.client.ingest_entries import Entry
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, NotCommitted, Unproven, of_detail, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command

if TYPE_CHECKING:
    from cbmdhi.client.new_record import NewRecord, Prepared

_CERTAIN = (code_pb2.OUTCOME_COMMITTED, code_pb2.OUTCOME_NOT_DONE)
# Codes that leave open what became of a command.
_NO_VERDICT = (code_pb2.CODE_UNSPECIFIED, code_pb2.CODE_UNKNOWN_OUTCOME)


@dataclass(frozen=True)
class Written:
    """What became of a record, as the gateway says. Of one that was not written `receipt` raises, so that
    nobody takes a refusal for a receipt.

    error   None when it is committed; NotCommitted when the channel or the gateway refused it; NotSent or
            UnknownOutcome, which hold what was signed, to be sent again as it is (`client.resend`); Unproven,
            one of these, when what the gateway says is of another command or contradicts itself
    signed  the command that was signed here: by it `verify_receipts` tells whose the receipt is

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
    signed: pb.SignedCommand | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """What was not told to be done has an error, whoever puts it together."""
        receipt = self.told.receipt
        if self.error is None and (why := contradiction(receipt)):
            object.__setattr__(self, "error", Unproven(why, []))
        elif self.error is None and receipt.code != code_pb2.CODE_OK:
            object.__setattr__(self, "error", NotCommitted(receipt))

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


def contradiction(receipt: Receipt) -> str:
    """What in a receipt cannot be true together; empty when it can."""
    is_known = receipt.code in code_pb2.Code.values() and receipt.outcome in code_pb2.Outcome.values()
    if not is_known:
        return "it says it in a word that this version does not know"
    is_done = receipt.outcome == code_pb2.OUTCOME_COMMITTED
    if receipt.code == code_pb2.CODE_OK and not is_done:
        return "it says that it was done, and that it is not committed"
    if receipt.code in _NO_VERDICT and is_done:
        return "it says that it is committed, and not what was decided"
    return ""


def written_of(entry: Entry[NewRecord | Prepared], result: gateway_pb2.IngestResult | None) -> Written:
    """A result speaks of its own sending alone: one before it, by a stream that broke, may have done it."""
    nothing = gateway_pb2.RecordReceipt()
    if result is None:
        record = cast("NewRecord", getattr(entry.what, "record", entry.what))
        return Written(record, nothing, entry.refused)
    prepared = cast("Prepared", entry.what)
    record, item = prepared.record, prepared.item
    signed = item.group.commands[0]
    if result.HasField("error"):
        ours = of_detail(result.error)
        if ours.code == code_pb2.CODE_OK:
            return Written(record, nothing, Unproven("it calls that an error", [item]), signed)
        if ours.nothing_done and entry.may_be_done:
            ours.outcome = code_pb2.OUTCOME_UNKNOWN
        return Written(record, nothing, to_be_sent(ours, [item]), signed)
    if why := _not_of(item.group.commands, result.receipts):
        return Written(record, nothing, Unproven(why, [item], is_forged=True), signed)
    # Of several, which are done as a whole or not at all, the one that is not done tells why.
    bad = [one for one in result.receipts if one.receipt.code != code_pb2.CODE_OK]
    telling = [one for one in bad if one.receipt.code != code_pb2.CODE_GROUP_REFUSED]
    told = (telling or bad or result.receipts)[0]
    for one in result.receipts:
        if why := contradiction(one.receipt):
            return Written(record, told, Unproven(why, [item]), signed)
    receipt = told.receipt
    if receipt.outcome == code_pb2.OUTCOME_NOT_DONE and entry.may_be_done:
        receipt.outcome = code_pb2.OUTCOME_UNKNOWN
    if receipt.outcome in _CERTAIN:
        return Written(record, told, signed=signed)
    why = MeshError(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
    return Written(record, told, to_be_sent(why, [item]), signed)


def _not_of(group: Sequence[pb.SignedCommand], told: Sequence[gateway_pb2.RecordReceipt]) -> str:
    """Why receipts are not those of these commands, one for each in order; empty when they are."""
    if len(told) != len(group):
        return "its answer has not one receipt for each command"
    for signed, one in zip(group, told, strict=True):
        if not is_of(one.receipt, signed):
            return "its receipt is of another command"
    return ""


def is_of(receipt: Receipt, signed: pb.SignedCommand) -> bool:
    """Whether a receipt names this very command: ids are the signer's own."""
    is_same = receipt.command_sha256 in (b"", sha256(signed.command).digest())
    meant = command.parse(signed)[0].command_id, signed.signer
    return (receipt.command_id, receipt.signer) == meant and is_same
