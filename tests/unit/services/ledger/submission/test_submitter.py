"""Many callers share batches, and each hears about its own commands."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import grpc
import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command as commands
from services.ledger.domain.batches import MAX_COMMANDS, MAX_GROUPS, Lane, person_of
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.batch_submitter import BatchSubmitter, Limits
from services.ledger.submission.submitter import MAX_REQUEST_BYTES, Submitter
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import (
    ENGINE,
    Named,
    World,
    command_id,
    consent,
    endorse_error,
    of_consent,
    of_record,
    put_record,
    submission,
)
from tests.support.waiting import until
from tests.unit.services.ledger.submission.test_batch_submitter import FirstBlocks

WAIT = 5.0


@pytest.fixture
async def submitter(world: World) -> AsyncIterator[Submitter]:
    metrics = LedgerMetrics(Metrics("ledger"))
    limits = Limits(deadline_seconds=5.0, first_delay_seconds=0.001, longest_delay_seconds=0.002)
    async with Submitter(BatchSubmitter(world, FirstBlocks(world), metrics, limits), metrics) as submitter:
        yield submitter


def codes(answers: list[ledger_pb2.GroupReceipt]) -> list[int]:
    return [receipt.code for answer in answers for receipt in answer.receipts]


def of_a_ward(size: int, commands: int = 1) -> list[ledger_pb2.SealedGroup]:
    """Consents of fifty patients, so many in a group."""
    people = [Named(f"patient{number}x") for number in range(50)]
    return [
        submission(*(consent() for _ in range(commands)), signer=people[number % len(people)])
        for number in range(size)
    ]


async def test_what_arrives_together_travels_together_and_is_answered_in_order(
    world: World, submitter: Submitter
) -> None:
    sent = [of_record() for _ in range(50)]

    answers = await submitter.submit(sent, WAIT)

    assert [answer.receipts[0].command_id for answer in answers] == [command_id(one) for one in sent]
    assert [len(batch.items) for batch in world.endorsed] == [50]


async def test_consents_never_share_a_transaction_with_records(world: World, submitter: Submitter) -> None:
    mixed = submission(put_record(), consent())

    await submitter.submit([of_record(), of_consent(), of_record(), mixed], WAIT)

    kinds = [
        {
            commands.body_of(signed)[0] == "consent" or len(item.group.commands) > 1
            for item in batch.items
            for signed in item.group.commands
        }
        for batch in world.endorsed
    ]
    assert sorted(len(batch.items) for batch in world.endorsed) == [2, 2]
    assert {True} in kinds
    assert {False} in kinds


async def test_a_seal_of_a_request_stands_once_in_the_batch_that_names_it(
    world: World, submitter: Submitter
) -> None:
    seals = [state_pb2.SealedBatch(root_sha256=bytes((n,)) * 32) for n in range(2)]
    sent = [of_record() for _ in range(3)]
    for one in sent:
        one.item.contents.add(cid="a CID", root_sha256=seals[0].root_sha256)

    await submitter.submit(sent, WAIT, seals=seals)

    assert [list(batch.seals) for batch in world.endorsed] == [seals[:1]]


async def test_a_request_s_seals_count_for_its_size(submitter: Submitter) -> None:
    large = state_pb2.SealedBatch(root_sha256=bytes(32), contents=bytes(MAX_REQUEST_BYTES))

    with pytest.raises(MeshError) as failure:
        await submitter.submit([of_record()], WAIT, seals=[large])

    assert failure.value.code == code_pb2.CODE_TOO_LARGE


async def test_a_batch_holds_no_more_groups_than_measured_to_pay(world: World, submitter: Submitter) -> None:
    await submitter.submit([of_record() for _ in range(MAX_GROUPS + 1)], WAIT)

    assert sorted(len(batch.items) for batch in world.endorsed) == [1, MAX_GROUPS]


async def test_a_batch_holds_no_more_commands_than_the_contract_takes(
    world: World, submitter: Submitter
) -> None:
    sent = [submission(*(put_record() for _ in range(100))) for _ in range(50)]

    answers = await submitter.submit(sent, WAIT)

    assert set(codes(answers)) == {code_pb2.CODE_OK}
    held = [sum(len(item.group.commands) for item in batch.items) for batch in world.endorsed]
    assert (sum(held), max(held) <= MAX_COMMANDS) == (5_000, True)


async def test_at_most_four_batches_are_in_flight(world: World, submitter: Submitter) -> None:
    world.hold.clear()
    calls = [asyncio.create_task(submitter.submit([of_record() for _ in range(400)], WAIT)) for _ in range(6)]
    await until(lambda: world.in_flight == 4)
    await asyncio.sleep(0)
    world.hold.set()

    answers = await asyncio.gather(*calls)

    assert world.most_in_flight == 4
    assert all(set(codes(answer)) == {code_pb2.CODE_OK} for answer in answers)


async def test_a_large_request_leaves_at_once_with_what_waited_for_company(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ledger.submission.submitter._LINGER_SECONDS", 3_600.0)
    metrics = LedgerMetrics(Metrics("ledger"))
    submitter = Submitter(BatchSubmitter(world, FirstBlocks(world), metrics), metrics)
    world.hold.clear()
    calls = [asyncio.create_task(submitter.submit([of_record()], WAIT))]
    await until(lambda: world.in_flight == 1)
    calls += [asyncio.create_task(submitter.submit([of_record()], WAIT)) for _ in range(3)]
    calls.append(asyncio.create_task(submitter.submit([of_record() for _ in range(60)], WAIT)))
    await until(lambda: world.in_flight == 2)
    world.hold.set()

    await asyncio.gather(*calls)

    assert [len(batch.items) for batch in world.endorsed] == [1, 63]


async def test_a_caller_out_of_time_hears_that_its_batch_may_yet_be_committed(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()
    one = of_record()

    (answer,) = await submitter.submit([one], 0.1)

    assert answer.receipts[0].code == code_pb2.CODE_UNKNOWN_OUTCOME
    assert answer.receipts[0].outcome == code_pb2.OUTCOME_UNKNOWN
    world.hold.set()
    (again,) = await submitter.submit([one], WAIT)
    assert again.receipts[0].code == code_pb2.CODE_OK


async def test_a_command_still_in_the_queue_at_the_deadline_is_certainly_not_done(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()
    # Consents go one batch at a time: the second one waits.
    first = asyncio.create_task(submitter.submit([of_consent()], WAIT))
    await until(lambda: world.in_flight == 1)
    late = of_consent()

    (answer,) = await submitter.submit([late], 0.1)

    assert answer.receipts[0].code == code_pb2.CODE_DEADLINE_EXCEEDED
    assert answer.receipts[0].outcome == code_pb2.OUTCOME_NOT_DONE
    world.hold.set()
    await first
    await submitter.submit([of_consent()], WAIT)
    sent = {
        signed.SerializeToString()
        for batch in world.endorsed
        for item in batch.items
        for signed in item.group.commands
    }
    assert late.item.group.commands[0].SerializeToString() not in sent


async def test_a_request_of_which_nothing_could_be_done_fails_as_a_whole(
    world: World, submitter: Submitter
) -> None:
    world.endorse_faults = deque([endorse_error(grpc.StatusCode.UNAVAILABLE)] * 100)

    with pytest.raises(MeshError) as failure:
        await submitter.submit([of_record(), of_record()], WAIT)

    assert failure.value.code == code_pb2.CODE_UNAVAILABLE
    assert failure.value.nothing_done
    assert failure.value.retry_after_ms > 0


async def test_a_deadline_in_the_very_turn_in_which_the_batch_leaves_is_not_called_nothing_done(
    world: World, submitter: Submitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under load: the batch is taken, and before it begins the caller's time is over."""
    lane = submitter._lanes[Lane.RECORDS]

    async def over_at_once(waiting: list[asyncio.Future[object]], timeout: float) -> None:  # noqa: ASYNC109
        lane._send_what_is_due()

    one = of_record()
    with monkeypatch.context() as patched:
        patched.setattr("services.ledger.submission.submitter.asyncio.wait", over_at_once)
        (answer,) = await submitter.submit([one], WAIT)
    await until(lambda: len(world.chain) == 2, "it is committed")

    (receipt,) = answer.receipts
    assert (receipt.code, receipt.outcome) == (
        code_pb2.CODE_UNKNOWN_OUTCOME,
        code_pb2.OUTCOME_UNKNOWN,
    )
    (again,) = await submitter.submit([one], WAIT)
    assert (again.receipts[0].code, again.receipts[0].already_committed) == (code_pb2.CODE_OK, True)


async def test_a_caller_that_goes_away_takes_along_what_has_not_left_yet(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()
    first = asyncio.create_task(submitter.submit([of_consent()], WAIT))
    await until(lambda: world.in_flight == 1)
    tasks = [asyncio.create_task(submitter.submit([of_consent() for _ in range(3)], WAIT))]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks)
    world.hold.set()
    await first
    await submitter.submit([of_consent()], WAIT)

    assert [len(batch.items) for batch in world.endorsed] == [1, 1]


async def test_a_request_that_does_not_fit_as_a_whole_is_refused_as_a_whole_and_told_when_to_come_back(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()
    calls = [asyncio.create_task(submitter.submit(of_a_ward(400), WAIT))]
    await until(lambda: world.in_flight == 1)
    # A group counts for as much as it has commands: 3,600 and 800 are more than 4,000.
    calls += [asyncio.create_task(submitter.submit(of_a_ward(size, 8), WAIT)) for size in (450, 100)]
    done, _ = await asyncio.wait(calls, timeout=WAIT, return_when=asyncio.FIRST_COMPLETED)

    assert done == {calls[2]}
    failure = calls[2].exception()
    assert isinstance(failure, MeshError)
    assert failure.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert failure.nothing_done
    assert failure.retry_after_ms > 0
    world.hold.set()
    await asyncio.gather(*calls[:2])
    assert sum(len(batch.items) for batch in world.endorsed) == 850


async def test_a_gateway_that_fills_its_queue_leaves_another_gateway_its_own(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()

    def busy(size: int, commands: int = 1) -> "asyncio.Task[list[ledger_pb2.GroupReceipt]]":
        return asyncio.create_task(submitter.submit(of_a_ward(size, commands), WAIT, "busy"))

    calls = [busy(400)]
    await until(lambda: world.in_flight == 1)
    calls.append(busy(500, 8))
    other = of_consent()
    calls.append(asyncio.create_task(submitter.submit([other], WAIT, "other")))
    await asyncio.sleep(0)
    world.hold.set()
    answers = await asyncio.gather(*calls)

    assert all(set(codes(answer)) == {code_pb2.CODE_OK} for answer in answers)
    assert other.item in world.endorsed[1].items


async def test_a_person_who_fills_a_gateway_s_queue_leaves_others_behind_the_gateway_their_turn(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()
    flooding, other = Named("flooding"), submission(consent(), signer=Named("other"))
    calls = [asyncio.create_task(submitter.submit(of_a_ward(1), WAIT, "gateway"))]
    await until(lambda: world.in_flight == 1)
    flood = [submission(consent(), signer=flooding) for _ in range(MAX_GROUPS + 50)]
    calls += [
        asyncio.create_task(submitter.submit(flood, WAIT, "gateway")),
        asyncio.create_task(submitter.submit([other], WAIT, "gateway")),
    ]
    await asyncio.sleep(0)
    world.hold.set()
    answers = await asyncio.gather(*calls)

    assert all(set(codes(answer)) == {code_pb2.CODE_OK} for answer in answers)
    assert other.item in world.endorsed[1].items


async def test_what_is_too_much_of_a_person_is_refused_and_not_what_others_sent_with_it(
    world: World, submitter: Submitter
) -> None:
    world.hold.clear()
    first = asyncio.create_task(submitter.submit(of_a_ward(1), WAIT, "gateway"))
    await until(lambda: world.in_flight == 1)
    flood = [submission(consent(), signer=Named("flooding")) for _ in range(600)]
    call = asyncio.create_task(submitter.submit([*flood, of_consent()], WAIT, "gateway"))
    await asyncio.sleep(0)
    world.hold.set()
    (*theirs, other), _ = await asyncio.gather(call, first)

    assert codes([other]) == [code_pb2.CODE_OK]
    assert codes(theirs) == [code_pb2.CODE_OK] * 500 + [code_pb2.CODE_RESOURCE_EXHAUSTED] * 100
    assert {one.receipts[0].outcome for one in theirs[500:]} == {code_pb2.OUTCOME_NOT_DONE}


def test_a_device_s_command_is_whose_it_was_signed_for() -> None:
    delegated = of_consent()
    [signed] = delegated.item.group.commands
    signed.delegation.delegation = command_pb2.Delegation(delegator="cb1patient").SerializeToString()
    unreadable = of_consent()
    unreadable.item.group.commands[0].delegation.delegation = b"\xff"

    assert person_of(delegated) == "cb1patient"
    assert person_of(unreadable) == person_of(of_consent()) == ENGINE.address


async def test_a_group_too_large_for_any_transaction_is_refused_alone(submitter: Submitter) -> None:
    large = of_record()
    large.item.group.commands[0].command += b"\0" * (4 << 20)

    answers = await submitter.submit([of_record(), large], WAIT)

    assert codes(answers) == [code_pb2.CODE_OK, code_pb2.CODE_TOO_LARGE]


@pytest.mark.parametrize(
    ("submissions", "code"),
    [
        ([], code_pb2.CODE_INVALID),
        ([ledger_pb2.SealedGroup()], code_pb2.CODE_INVALID),
        ([of_record()] * 1_001, code_pb2.CODE_TOO_LARGE),
    ],
)
async def test_a_request_out_of_bounds_is_refused_before_anything_is_done(
    submitter: Submitter, world: World, submissions: list[ledger_pb2.SealedGroup], code: int
) -> None:
    with pytest.raises(MeshError) as failure:
        await submitter.submit(submissions, WAIT)

    assert failure.value.code == code
    assert world.endorsed == []


async def test_what_waits_at_shutdown_is_still_committed(world: World) -> None:
    metrics = LedgerMetrics(Metrics("ledger"))
    async with Submitter(BatchSubmitter(world, FirstBlocks(world), metrics), metrics) as submitter:
        call = asyncio.create_task(submitter.submit([of_record()], WAIT))
        await asyncio.sleep(0)
    assert codes(await call) == [code_pb2.CODE_OK]
