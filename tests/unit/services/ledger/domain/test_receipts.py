"""What a caller is told of a command: what is certain, and where it stands."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import audit_key
from services.ledger.domain.batches import command_id_of
from services.ledger.domain.receipts import (
    Settlement,
    all_failed,
    failed,
    first_transactions,
    of_audit_entry,
    of_result,
    unfit_policies,
)
from tests.support.fakes.fabric_channel import consent, of_record, put_record, submission

BASIS = state_pb2.DecisionBasis(policy_version=3)


def verdicts(*groups: list[state_pb2.Verdict]) -> state_pb2.BatchResult:
    return state_pb2.BatchResult(groups=[state_pb2.GroupVerdict(verdicts=group) for group in groups])


def who(group: ledger_pb2.SealedGroup, place: int = 0) -> tuple[str, str]:
    signed = group.item.group.commands[place]
    return command_id_of(signed), signed.signer


def test_a_command_of_the_batch_has_its_verdict_and_its_transaction() -> None:
    group = of_record()
    command_id, signer = who(group)
    verdict = state_pb2.Verdict(
        command_id=command_id, code=code_pb2.CODE_FORBIDDEN, reason="no consent", path="body", basis=BASIS
    )

    (receipts,) = of_result(
        [group], verdicts([verdict]), Settlement("tx", 7, {audit_key(command_id, signer)}), {}
    )

    assert list(receipts.receipts) == [
        ledger_pb2.Receipt(
            command_id=command_id,
            code=code_pb2.CODE_FORBIDDEN,
            reason="no consent",
            path="body",
            basis=BASIS,
            signer=signer,
            tx_id="tx",
            block=7,
            outcome=code_pb2.OUTCOME_COMMITTED,
        )
    ]


def test_what_left_nothing_on_the_channel_was_not_done_and_has_no_transaction() -> None:
    group = submission(put_record(), consent())
    (first, signer), (second, _) = who(group), who(group, 1)
    result = verdicts([state_pb2.Verdict(command_id=first), state_pb2.Verdict(command_id=second)])

    (receipts,) = of_result([group], result, Settlement("tx", 7, {audit_key(second, signer)}), {})

    left_out, recorded = receipts.receipts
    assert (left_out.outcome, left_out.tx_id, left_out.block) == (code_pb2.OUTCOME_NOT_DONE, "", 0)
    assert not left_out.HasField("basis")
    assert (recorded.outcome, recorded.tx_id, recorded.block) == (code_pb2.OUTCOME_COMMITTED, "tx", 7)


def test_what_was_sent_again_is_told_its_first_verdict_and_where_that_is() -> None:
    groups = [of_record() for _ in range(4)]
    first = ["before", "tx", "unknown", ""]
    result = verdicts(
        *(
            [
                state_pb2.Verdict(
                    command_id=who(group)[0],
                    code=code_pb2.CODE_ALREADY_COMMITTED if tx_id else code_pb2.CODE_OK,
                    first_code=code_pb2.CODE_FORBIDDEN,
                    first_tx_id=tx_id or "of no account",
                )
            ]
            for group, tx_id in zip(groups, first, strict=True)
        )
    )

    told = of_result(groups, result, Settlement("tx", 7, {audit_key(*who(groups[3]))}), {"before": 3})

    assert first_transactions(result) == {"before", "tx", "unknown"}
    receipts = [group.receipts[0] for group in told]
    assert [(one.tx_id, one.block) for one in receipts] == [
        ("before", 3),
        ("tx", 7),
        ("unknown", 0),
        ("tx", 7),
    ]
    assert [one.already_committed for one in receipts] == [True, True, True, False]
    assert [one.code for one in receipts] == [code_pb2.CODE_FORBIDDEN] * 3 + [code_pb2.CODE_OK]
    assert {one.outcome for one in receipts} == {code_pb2.OUTCOME_COMMITTED}


def test_a_group_without_verdicts_says_what_is_certain_of_each_of_its_commands() -> None:
    group = submission(put_record(), consent())

    told = failed(group, code_pb2.CODE_UNAVAILABLE, "the channel is away", code_pb2.OUTCOME_UNKNOWN)

    assert list(told.receipts) == [
        ledger_pb2.Receipt(
            command_id=who(group, place)[0],
            code=code_pb2.CODE_UNAVAILABLE,
            reason="the channel is away",
            signer=who(group, place)[1],
            outcome=code_pb2.OUTCOME_UNKNOWN,
        )
        for place in range(2)
    ]
    several = all_failed([group, group], code_pb2.CODE_UNAVAILABLE, "away", code_pb2.OUTCOME_NOT_DONE)
    assert several == [failed(group, code_pb2.CODE_UNAVAILABLE, "away", code_pb2.OUTCOME_NOT_DONE)] * 2


def test_an_entry_of_the_trail_gives_the_receipt_that_its_command_had() -> None:
    entry = state_pb2.AuditEntry(
        command_id="an id",
        code=code_pb2.CODE_FORBIDDEN,
        reason="no consent",
        path="body",
        basis=BASIS,
        tx_id="tx",
        signer="somebody",
        command_sha256=b"digest",
    )

    receipt = of_audit_entry(entry, 7)

    assert receipt == ledger_pb2.Receipt(
        command_id="an id",
        code=code_pb2.CODE_FORBIDDEN,
        reason="no consent",
        path="body",
        basis=BASIS,
        tx_id="tx",
        block=7,
        signer="somebody",
        outcome=code_pb2.OUTCOME_COMMITTED,
        command_sha256=b"digest",
    )
    entry.ClearField("basis")
    assert not of_audit_entry(entry, 7).HasField("basis")


def test_only_a_policy_that_is_refused_for_its_text_is_refused_for_good() -> None:
    policy = "body.set_policy.policy.cedar"

    def verdict(code: int, path: str = policy) -> list[state_pb2.Verdict]:
        return [state_pb2.Verdict(code=code, path=path)]  # type: ignore[arg-type]

    votes = [submission(command_pb2.SetPolicy()) for _ in range(4)]
    refused = verdicts(
        verdict(code_pb2.CODE_FORBIDDEN),
        verdict(code_pb2.CODE_INVALID),
        verdict(code_pb2.CODE_TOO_LARGE),
        verdict(code_pb2.CODE_INVALID, "body.set_policy.previous_version"),
    )

    assert unfit_policies(votes, refused) == [1, 2]
    assert unfit_policies([of_record()], verdicts(verdict(code_pb2.CODE_INVALID))) == []
