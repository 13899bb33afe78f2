"""What comes back for a group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt, StoredContent
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from services.gateway.domain.group import Parsed
from services.runtime.refusal import Refused

_GROUP_REFUSED = "another command of the group was refused, so none of it was done: see its receipt"
_UNKNOWN = "it may have been committed: sent again as it was signed, it is done at most once"


def refused(commands: Sequence[Parsed], why: Refused) -> list[RecordReceipt]:
    """A receipt for each command of a group that was not taken: the one to blame, and its companions."""
    blamed = why.index or 0
    return [
        RecordReceipt(
            receipt=_receipt(parsed, why.code, why.reason, why.path)
            if index == blamed
            else _receipt(parsed, code_pb2.CODE_GROUP_REFUSED, _GROUP_REFUSED)
        )
        for index, parsed in enumerate(commands)
    ]


def unknown(commands: Iterable[Parsed]) -> list[Receipt]:
    """A receipt for each command of a group whose fate is not known."""
    return [
        _receipt(parsed, code_pb2.CODE_UNKNOWN_OUTCOME, _UNKNOWN, outcome=code_pb2.OUTCOME_UNKNOWN)
        for parsed in commands
    ]


def committed(
    receipts: Sequence[Receipt],
    stored: Mapping[int, StoredContent],
    replicas: Mapping[bytes, Sequence[ReplicaReceipt]],
) -> list[RecordReceipt]:
    """Receipts with where the contents lie: what is on the ledger, by the command's index.

    replicas  of what was sealed just now, by the root that a content names
    """
    return [
        RecordReceipt(
            receipt=receipt,
            stored=stored.get(index),
            replicas=()
            if receipt.already_committed or index not in stored
            else replicas.get(stored[index].root_sha256, ()),
        )
        if receipt.code == code_pb2.CODE_OK
        else RecordReceipt(receipt=receipt)
        for index, receipt in enumerate(receipts)
    ]


def _receipt(
    parsed: Parsed,
    code: int,
    reason: str,
    path: str = "",
    outcome: code_pb2.Outcome = code_pb2.OUTCOME_NOT_DONE,
) -> Receipt:
    return Receipt(
        command_id=parsed.header.command_id,
        signer=parsed.signed.signer,
        code=code,  # pyright: ignore[reportArgumentType]
        reason=reason,
        path=path,
        outcome=outcome,
    )
