"""Makes receipts for callers from the chaincode's verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import audit_key
from services.ledger.domain.batches import body_name, command_id_of

_POLICY_TEXT = "body.set_policy.policy.cedar"

Command = tuple[str, str]
"""Command id and signer."""


class MalformedResult(Exception):
    """The chaincode's answer does not fit the batch: a fault of the chaincode."""


@dataclass(frozen=True)
class Settlement:
    """Where a batch was committed. `recorded` holds the state keys that its transaction wrote.

    tx_id and block  of the transaction; empty when the batch had nothing to write and was not ordered
    """

    tx_id: str
    block: int
    recorded: AbstractSet[str]


def first_transactions(result: state_pb2.BatchResult) -> set[str]:
    """Transactions in which commands of the batch were committed before."""
    return {
        verdict.first_tx_id
        for group in result.groups
        for verdict in group.verdicts
        if verdict.code == code_pb2.CODE_ALREADY_COMMITTED
    }


def check_shape(submissions: Sequence[ledger_pb2.SealedGroup], result: state_pb2.BatchResult) -> None:
    """Check that there is one verdict for each command, in order. Raises MalformedResult."""
    asked = [len(submission.item.group.commands) for submission in submissions]
    answered = [len(group.verdicts) for group in result.groups]
    if asked != answered:
        raise MalformedResult("verdicts and commands differ in number")


def unfit_policies(submissions: Sequence[ledger_pb2.SealedGroup], result: state_pb2.BatchResult) -> list[int]:
    """Places of the groups that were refused for the text of a policy. They will be refused at any time."""
    return [
        place
        for place, (submission, answer) in enumerate(zip(submissions, result.groups, strict=True))
        if any(
            verdict.path == _POLICY_TEXT
            and verdict.code in (code_pb2.CODE_INVALID, code_pb2.CODE_TOO_LARGE)
            and body_name(signed) == "set_policy"
            for signed, verdict in zip(submission.item.group.commands, answer.verdicts, strict=True)
        )
    ]


def of_result(
    submissions: Sequence[ledger_pb2.SealedGroup],
    result: state_pb2.BatchResult,
    settlement: Settlement,
    first_blocks: Mapping[str, int],
) -> list[ledger_pb2.GroupReceipt]:
    """One receipt for each command of a result that passed `check_shape`.

    first_blocks  blocks of the `first_transactions`
    """
    groups: list[ledger_pb2.GroupReceipt] = []
    for submission, answer in zip(submissions, result.groups, strict=True):
        group = ledger_pb2.GroupReceipt()
        for signed, verdict in zip(submission.item.group.commands, answer.verdicts, strict=True):
            _add_verdict(group, verdict, signed.signer, settlement, first_blocks)
        groups.append(group)
    return groups


def failed(
    submission: ledger_pb2.SealedGroup, code: int, reason: str, outcome: int
) -> ledger_pb2.GroupReceipt:
    """The receipts of a group that has no verdicts. `outcome`: what is certain about it."""
    return ledger_pb2.GroupReceipt(
        receipts=[
            ledger_pb2.Receipt(
                command_id=command_id_of(signed),
                code=code,  # pyright: ignore[reportArgumentType]
                reason=reason,
                signer=signed.signer,
                outcome=outcome,  # pyright: ignore[reportArgumentType]
            )
            for signed in submission.item.group.commands
        ]
    )


def all_failed(
    submissions: Iterable[ledger_pb2.SealedGroup], code: int, reason: str, outcome: int
) -> list[ledger_pb2.GroupReceipt]:
    return [failed(submission, code, reason, outcome) for submission in submissions]


def of_audit_entry(entry: state_pb2.AuditEntry, block: int) -> ledger_pb2.Receipt:
    """The receipt of a command that was committed earlier."""
    return ledger_pb2.Receipt(
        command_id=entry.command_id,
        code=entry.code,
        reason=entry.reason,
        path=entry.path,
        basis=entry.basis if entry.HasField("basis") else None,
        tx_id=entry.tx_id,
        block=block,
        signer=entry.signer,
        outcome=code_pb2.OUTCOME_COMMITTED,
        command_sha256=entry.command_sha256,
    )


def _add_verdict(
    group: ledger_pb2.GroupReceipt,
    verdict: state_pb2.Verdict,
    signer: str,
    settlement: Settlement,
    first_blocks: Mapping[str, int],
) -> None:
    receipt = group.receipts.add(
        command_id=verdict.command_id,
        code=verdict.code,
        reason=verdict.reason,
        path=verdict.path,
        basis=verdict.basis if verdict.HasField("basis") else None,
        signer=signer,
        outcome=code_pb2.OUTCOME_COMMITTED,
    )
    if verdict.code == code_pb2.CODE_ALREADY_COMMITTED:
        receipt.code = verdict.first_code
        receipt.tx_id = verdict.first_tx_id
        receipt.block = _block_of(verdict.first_tx_id, settlement, first_blocks)
        receipt.already_committed = True
    elif audit_key(verdict.command_id, signer) in settlement.recorded:
        receipt.tx_id, receipt.block = settlement.tx_id, settlement.block
    else:
        # Invalid signatures and faults of the submitter leave nothing on the channel.
        receipt.outcome = code_pb2.OUTCOME_NOT_DONE


def _block_of(tx_id: str, settlement: Settlement, first_blocks: Mapping[str, int]) -> int:
    # A batch may hold the same command twice: then the first is in the same transaction.
    return settlement.block if tx_id == settlement.tx_id else first_blocks.get(tx_id, 0)
