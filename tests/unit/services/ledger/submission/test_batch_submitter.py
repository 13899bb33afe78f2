"""A batch meets trouble on its way, and its callers hear what is certain."""

import asyncio
import dataclasses
from collections import deque

import grpc
import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import sealed_writer_key_name
from services.ledger.channel.epochs import Epochs
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.batch_submitter import BatchSubmitter, Limits
from services.runtime.errors import code_name, outcome_name
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import (
    World,
    command_id,
    consent,
    endorse_error,
    of_record,
    put_record,
    submission,
)

LOST = fabric.SubmitError(grpc.StatusCode.UNAVAILABLE, "no orderers could successfully process transaction")
CONFLICT = fabric.MVCC_READ_CONFLICT
QUICK = Limits(deadline_seconds=5.0, first_delay_seconds=0.001, longest_delay_seconds=0.002)


class FirstBlocks:
    """Finds transactions in the world's chain, as the projection and the peer would."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def blocks_of(self, tx_ids: list[str]) -> dict[str, int]:
        return {tx_id: (await self._world.block_by_transaction(tx_id)).number for tx_id in tx_ids}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("ledger")


@pytest.fixture
def carrier(world: World, metrics: Metrics) -> BatchSubmitter:
    return BatchSubmitter(world, FirstBlocks(world), LedgerMetrics(metrics), QUICK)


def codes(answers: list[ledger_pb2.GroupReceipt]) -> list[int]:
    return [receipt.code for answer in answers for receipt in answer.receipts]


async def test_a_receipt_names_the_transaction_and_the_block_of_its_command(
    world: World, carrier: BatchSubmitter
):
    one, other = of_record(), of_record()

    first, second = await carrier.carry([one, other])

    assert first.receipts[0].command_id == command_id(one)
    assert second.receipts[0].command_id == command_id(other)
    assert first.receipts[0].code == code_pb2.CODE_OK
    assert first.receipts[0].tx_id == world.chain[1].transactions[0].transaction_id
    assert first.receipts[0].block == 1
    assert first.receipts[0].signer == one.item.group.commands[0].signer


async def test_a_command_sent_again_gets_the_first_receipt_and_is_not_ordered(
    world: World, carrier: BatchSubmitter
):
    one = of_record()
    (first,) = await carrier.carry([one])
    await carrier.carry([of_record()])

    (again,) = await carrier.carry([one])

    assert again.receipts[0].already_committed
    assert not first.receipts[0].already_committed
    assert again.receipts[0].code == code_pb2.CODE_OK
    assert again.receipts[0].tx_id == first.receipts[0].tx_id
    assert again.receipts[0].block == first.receipts[0].block == 1
    assert len(world.chain) == 3


async def test_the_same_command_twice_in_a_batch_is_done_once(world: World, carrier: BatchSubmitter):
    one = of_record()

    first, second = await carrier.carry([one, one])

    assert (first.receipts[0].already_committed, second.receipts[0].already_committed) == (False, True)
    assert second.receipts[0].tx_id == first.receipts[0].tx_id
    assert second.receipts[0].block == first.receipts[0].block == 1


async def test_one_bad_command_harms_none_of_its_neighbours(carrier: BatchSubmitter):
    forged = of_record()
    forged.item.group.commands[0].signature = b"forged"
    garbage = of_record()
    garbage.item.group.commands[0].command = b"\xff\xff"

    answers = await carrier.carry([of_record(), forged, garbage, of_record()])

    assert codes(answers) == [
        code_pb2.CODE_OK,
        code_pb2.CODE_BAD_SIGNATURE,
        code_pb2.CODE_INVALID,
        code_pb2.CODE_OK,
    ]
    assert answers[1].receipts[0].tx_id == ""
    assert answers[2].receipts[0].path == "command"


async def test_a_batch_of_nothing_but_bad_commands_is_not_ordered(world: World, carrier: BatchSubmitter):
    forged = of_record()
    forged.item.group.commands[0].signature = b"forged"

    assert codes(await carrier.carry([forged])) == [code_pb2.CODE_BAD_SIGNATURE]
    assert len(world.chain) == 1


def of_policy(text: str = "whatever Erika Mustermann likes") -> ledger_pb2.SealedGroup:
    return submission(command_pb2.SetPolicy(policy=command_pb2.PolicyDocument(version=2, cedar=text)))


@pytest.mark.parametrize("neighbours", [0, 2])
async def test_a_policy_that_is_no_cedar_is_never_ordered_and_harms_none_of_its_neighbours(
    world: World, carrier: BatchSubmitter, neighbours: int
):
    consents = [submission(consent()) for _ in range(neighbours)]
    accepted = of_policy("permit (principal, action, resource);")
    before = len(world.chain)

    *answers, last = await carrier.carry([*consents, of_policy(), of_policy("")])

    assert codes([*answers, last]) == [code_pb2.CODE_OK] * neighbours + [code_pb2.CODE_INVALID] * 2
    assert (last.receipts[0].tx_id, last.receipts[0].outcome) == ("", code_pb2.OUTCOME_NOT_DONE)
    assert [one.receipts[0].command_id for one in answers[:-1]] == [command_id(one) for one in consents]
    assert len(world.chain) == before + bool(neighbours)
    assert not any(b"Erika Mustermann" in repr(block.transactions).encode() for block in world.chain)
    # A refusal that could be otherwise another time is on record, so that it is the last word.
    world.forbidden.add(command_id(accepted))
    assert codes(await carrier.carry([accepted])) == [code_pb2.CODE_FORBIDDEN]
    assert b"permit (principal" in repr(world.chain[-1].transactions).encode()


async def test_each_command_of_a_group_has_its_receipt(carrier: BatchSubmitter):
    (answer,) = await carrier.carry([submission(put_record(), consent())])

    assert [receipt.code for receipt in answer.receipts] == [code_pb2.CODE_OK] * 2
    assert len({receipt.command_id for receipt in answer.receipts}) == 2


async def test_a_conflict_is_retried_as_it_is(world: World, carrier: BatchSubmitter, metrics: Metrics):
    world.verdicts = deque([CONFLICT])

    answers = await carrier.carry([of_record(), of_record()])

    assert codes(answers) == [code_pb2.CODE_OK] * 2
    assert [len(batch.items) for batch in world.endorsed] == [2, 2]
    assert answers[0].receipts[0].block == 2
    assert metrics.registry.get_sample_value("cbmdhi_ledger_conflicts_total") == 1


async def test_a_batch_that_conflicts_again_is_halved_and_keeps_its_order(
    world: World, carrier: BatchSubmitter
):
    world.verdicts = deque([CONFLICT, CONFLICT])
    sent = [of_record() for _ in range(4)]

    answers = await carrier.carry(sent)

    assert codes(answers) == [code_pb2.CODE_OK] * 4
    assert [len(batch.items) for batch in world.endorsed] == [4, 4, 2, 2]
    assert [answer.receipts[0].command_id for answer in answers] == [command_id(one) for one in sent]
    assert [answer.receipts[0].block for answer in answers] == [3, 3, 4, 4]


async def test_endless_conflicts_end_with_the_budget_and_nothing_done(world: World, carrier: BatchSubmitter):
    world.verdicts = deque([CONFLICT] * 1_000)

    answers = await carrier.carry([of_record() for _ in range(64)])

    assert set(codes(answers)) == {code_pb2.CODE_RESOURCE_EXHAUSTED}
    assert len(world.endorsed) <= QUICK.transactions
    assert all(receipt.tx_id == "" for answer in answers for receipt in answer.receipts)


async def test_a_lost_submission_is_sent_again_and_counts_once(world: World, carrier: BatchSubmitter):
    world.submit_faults = deque([(LOST, True)])

    answers = await carrier.carry([of_record()])

    assert codes(answers) == [code_pb2.CODE_OK]
    assert [one.validation_code for one in world.transactions()] == [fabric.VALID, fabric.DUPLICATE_TXID]
    assert answers[0].receipts[0].block == 1


async def test_a_stranger_s_envelope_under_the_same_id_does_not_make_undone_what_is_on_the_channel(
    world: World, carrier: BatchSubmitter
):
    world.shadowed = True

    answers = await carrier.carry([of_record()])

    assert codes(answers) == [code_pb2.CODE_OK]
    assert answers[0].receipts[0].outcome == code_pb2.OUTCOME_COMMITTED
    assert answers[0].receipts[0].block == 1


async def test_a_submission_that_never_arrived_is_sent_again(world: World, carrier: BatchSubmitter):
    world.submit_faults = deque([(LOST, False)])

    answers = await carrier.carry([of_record()])

    assert codes(answers) == [code_pb2.CODE_OK]
    assert [one.validation_code for one in world.transactions()] == [fabric.VALID]


async def test_what_the_orderer_refuses_for_certain_is_failed_and_not_unknown(
    world: World, carrier: BatchSubmitter
):
    refusal = fabric.SubmitError(grpc.StatusCode.FAILED_PRECONDITION, "no such channel")
    world.submit_faults = deque([(refusal, False)])

    (answer,) = await carrier.carry([of_record()])

    (receipt,) = answer.receipts
    assert (receipt.code, receipt.outcome) == (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_NOT_DONE)


@pytest.mark.parametrize("reached", [True, False])
async def test_a_refusal_by_one_orderer_says_nothing_of_another_whose_answer_was_lost(
    world: World, carrier: BatchSubmitter, reached: bool
):
    world.submit_faults = deque([(fabric.SubmitError(grpc.StatusCode.ABORTED, "NOT_FOUND"), reached)])

    (answer,) = await carrier.carry([of_record()])

    (receipt,) = answer.receipts
    assert (receipt.code, receipt.outcome) == (code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED)
    counting = [one for one in world.transactions() if one.validation_code == fabric.VALID]
    assert len(counting) == 1


async def test_a_receipt_says_what_is_certain_whatever_its_code(world: World, carrier: BatchSubmitter):
    recorded, not_recorded = of_record(), of_record()
    world.forbidden.add(command_id(recorded))
    not_recorded.item.group.commands[0].signature = b""

    answers = await carrier.carry([of_record(), recorded, not_recorded])
    (again,) = await carrier.carry([recorded])
    world.down = True
    world.endorse_faults = deque([endorse_error(grpc.StatusCode.UNAVAILABLE)] * 100)
    (away,) = await carrier.carry([of_record()])

    said = [answer.receipts[0] for answer in (*answers, again, away)]
    assert [(code_name(one.code), outcome_name(one.outcome), bool(one.tx_id)) for one in said] == [
        ("OK", "COMMITTED", True),
        ("FORBIDDEN", "COMMITTED", True),
        ("BAD_SIGNATURE", "NOT_DONE", False),
        ("FORBIDDEN", "COMMITTED", True),
        ("UNAVAILABLE", "NOT_DONE", False),
    ]


async def test_a_commit_status_that_is_not_answered_is_found_in_the_blocks(
    world: World, carrier: BatchSubmitter
):
    async def no_answer(self: object, *_: object) -> None:
        raise fabric.CommitStatusError(grpc.StatusCode.UNAVAILABLE, "connection refused")

    world.commit_status = no_answer  # type: ignore[method-assign, assignment]

    answers = await carrier.carry([of_record()])

    assert codes(answers) == [code_pb2.CODE_OK]
    assert answers[0].receipts[0].block == 1


async def test_a_fate_that_nobody_tells_is_unknown_and_not_failed(world: World, metrics: Metrics):
    limits = dataclasses.replace(QUICK, deadline_seconds=0.5)
    carrier = BatchSubmitter(world, FirstBlocks(world), LedgerMetrics(metrics), limits)
    world.deaf = True
    one = of_record()

    (answer,) = await carrier.carry([one])

    assert answer.receipts[0].code == code_pb2.CODE_UNKNOWN_OUTCOME
    assert answer.receipts[0].outcome == code_pb2.OUTCOME_UNKNOWN
    assert answer.receipts[0].command_id == command_id(one)
    assert metrics.registry.get_sample_value("cbmdhi_ledger_unknown_outcomes_total") == 1

    world.deaf = False
    (again,) = await carrier.carry([one])
    assert again.receipts[0].already_committed
    assert again.receipts[0].code == code_pb2.CODE_OK


async def test_a_batch_that_waits_for_the_time_to_be_told_waits_no_longer_than_its_own(
    world: World, metrics: Metrics
) -> None:
    """Whoever tells it may hang with its peer: the batch has a place of which there are few."""

    class Hanging(Epochs):
        async def ensure(self) -> bool:
            return await asyncio.get_running_loop().create_future()

    ledger = LedgerMetrics(metrics)
    limits = dataclasses.replace(QUICK, deadline_seconds=0.1)
    carrier = BatchSubmitter(world, FirstBlocks(world), ledger, limits, epochs=Hanging(world, ledger))
    world.clock = 1_790_000_040.0

    (answer,) = await asyncio.wait_for(carrier.carry([of_record()]), 30)

    assert answer.receipts[0].outcome == code_pb2.OUTCOME_NOT_DONE
    assert len(world.chain) == 1


async def test_who_asks_where_a_command_was_first_is_answered_although_nobody_says(
    world: World, metrics: Metrics
) -> None:
    class Hanging(FirstBlocks):
        async def blocks_of(self, tx_ids: list[str]) -> dict[str, int]:
            return await asyncio.get_running_loop().create_future()

    limits = dataclasses.replace(QUICK, deadline_seconds=0.2)
    carrier = BatchSubmitter(world, Hanging(world), LedgerMetrics(metrics), limits)
    one = of_record()
    await carrier.carry([one])

    (again,) = await asyncio.wait_for(carrier.carry([one]), 30)

    (receipt,) = again.receipts
    assert (receipt.code, receipt.outcome) == (code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED)
    assert (receipt.already_committed, receipt.block) == (True, 0)


async def test_what_an_orderer_took_along_when_it_hung_is_ordered_by_another(
    world: World, carrier: BatchSubmitter
) -> None:
    """It had answered that it has the transaction, or had it from one that did."""
    world.lost = 1

    (answer,) = await carrier.carry([of_record()])

    (receipt,) = answer.receipts
    assert (receipt.code, receipt.outcome) == (code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED)
    assert len(world.endorsed) == 1
    assert [one.validation_code for one in world.transactions()] == [fabric.VALID]


async def test_an_order_that_hangs_is_unknown_when_the_batch_s_time_is_over(
    world: World, metrics: Metrics
) -> None:
    limits = dataclasses.replace(QUICK, deadline_seconds=0.2)
    carrier = BatchSubmitter(world, FirstBlocks(world), LedgerMetrics(metrics), limits)

    async def hangs(_: object) -> None:
        await asyncio.get_running_loop().create_future()

    world.order = hangs  # type: ignore[method-assign, assignment]

    (answer,) = await asyncio.wait_for(carrier.carry([of_record()]), 30)

    assert answer.receipts[0].code == code_pb2.CODE_UNKNOWN_OUTCOME
    assert answer.receipts[0].outcome == code_pb2.OUTCOME_UNKNOWN


async def test_a_batch_that_is_not_endorsed_in_time_is_certainly_not_done(
    world: World, metrics: Metrics
) -> None:
    limits = dataclasses.replace(QUICK, deadline_seconds=0.1)
    carrier = BatchSubmitter(world, FirstBlocks(world), LedgerMetrics(metrics), limits)
    world.hold.clear()

    assert codes(await carrier.carry([of_record()])) == [code_pb2.CODE_DEADLINE_EXCEEDED]
    assert len(world.chain) == 1


async def test_a_peer_that_is_away_for_a_moment_is_not_noticed(world: World, carrier: BatchSubmitter):
    world.endorse_faults = deque([endorse_error(grpc.StatusCode.UNAVAILABLE)])

    assert codes(await carrier.carry([of_record()])) == [code_pb2.CODE_OK]


async def test_a_member_that_stays_away_makes_the_batch_unavailable(world: World, carrier: BatchSubmitter):
    world.endorse_faults = deque([endorse_error(grpc.StatusCode.UNAVAILABLE)] * 100)

    answers = await carrier.carry([of_record(), of_record()])

    assert codes(answers) == [code_pb2.CODE_UNAVAILABLE] * 2
    assert len(world.endorsed) == QUICK.tries
    assert len(world.chain) == 1


async def test_members_that_go_on_disagreeing_fail_the_endorsement(world: World, carrier: BatchSubmitter):
    mismatch = endorse_error(grpc.StatusCode.ABORTED, "ProposalResponsePayloads do not match")
    world.endorse_faults = deque([mismatch] * 100)

    assert codes(await carrier.carry([of_record()])) == [code_pb2.CODE_ENDORSEMENT_FAILED]


async def test_members_that_are_a_block_apart_agree_a_moment_later(world: World, carrier: BatchSubmitter):
    mismatch = endorse_error(grpc.StatusCode.ABORTED, "ProposalResponsePayloads do not match")
    world.endorse_faults = deque([mismatch])

    assert codes(await carrier.carry([of_record()])) == [code_pb2.CODE_OK]


async def test_a_group_that_upsets_the_whole_call_is_found_and_left_alone(
    world: World, carrier: BatchSubmitter
):
    sent = [of_record() for _ in range(8)]
    world.poison = command_id(sent[5])

    answers = await carrier.carry(sent)

    expected = [code_pb2.CODE_OK] * 8
    expected[5] = code_pb2.CODE_INTERNAL
    assert codes(answers) == expected


async def test_a_refusal_of_the_call_itself_is_not_searched_for_in_the_groups(
    world: World, carrier: BatchSubmitter
):
    said = "CODE_NOT_FOUND: genesis: call init first"
    world.endorse_faults = deque([endorse_error(grpc.StatusCode.ABORTED, said)])

    answers = await carrier.carry([of_record(), of_record()])

    assert codes(answers) == [code_pb2.CODE_NOT_FOUND] * 2
    assert len(world.endorsed) == 1
    assert "init" not in answers[0].receipts[0].reason


async def test_a_result_that_does_not_fit_the_batch_is_never_committed(world: World, carrier: BatchSubmitter):
    def one_verdict_short(
        batch: state_pb2.Batch, tx_id: str
    ) -> tuple[state_pb2.BatchResult, dict[str, bytes]]:
        return state_pb2.BatchResult(), {"aud/x/y": b"z"}

    world._process = one_verdict_short  # type: ignore[method-assign]

    assert codes(await carrier.carry([of_record()])) == [code_pb2.CODE_INTERNAL]
    assert len(world.chain) == 1


async def test_sealed_keys_travel_once_beside_the_batch(world: World, carrier: BatchSubmitter):
    key = state_pb2.SealedKey(msp="MercyMSP", key=sealed_writer_key_name("MercyMSP", "1"), sealed=b"sealed")
    one, other = of_record(), of_record()
    one.sealed_keys.append(key)
    other.sealed_keys.append(key)

    await carrier.carry([one, other])

    assert list(world.sealed[0]) == [key]
    assert b"sealed" not in world.endorsed[0].SerializeToString().replace(b"signed", b"")
