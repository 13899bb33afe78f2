"""Sent again: the first receipt, nothing new stored, and nothing thrown away that may be needed."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, Consent
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain import group as rules
from services.gateway.pipeline.submission import Answer, Submission, awaited
from services.runtime.errors import MeshError, code_name
from tests.support.fakes.gateway_people import CHANNEL, Person, Put, put
from tests.support.waiting import until
from tests.unit.services.gateway.conftest import World, build, start


async def test_a_resend_gets_the_first_receipt_and_stores_nothing_new(world: World) -> None:
    one = put(world.engine, world.patient)
    (first,) = await world.send(one)

    (again,) = await world.send(one)

    assert again.receipt.already_committed
    assert (again.receipt.code, again.receipt.tx_id) == (first.receipt.code, first.receipt.tx_id)
    assert again.stored == first.stored
    assert not again.replicas
    assert world.storage.sealed_items == 1
    assert len(world.ledger.submitted) == 1


async def test_a_resend_gets_its_first_receipt_though_it_has_expired_since(world: World) -> None:
    one = put(world.engine, world.patient)
    await world.send(one)
    world.clock.ahead_ms = 3_600_000

    (again,) = await world.send(one)

    assert (code_name(again.receipt.code), again.receipt.already_committed) == ("OK", True)
    assert await world.code_of(put(world.engine, world.patient)) == "EXPIRED"


async def test_other_bytes_under_a_committed_id_are_a_conflict_and_not_stored(world: World) -> None:
    one, other = put(world.engine, world.patient), put(world.engine, world.patient)
    await world.send(one)
    header, _ = command.parse(other.group.commands[0])
    header.command_id = one.command_id
    other.group.commands[0].CopyFrom(world.engine.sign_command(header.SerializeToString()))

    assert await world.code_of(other) == "CONFLICT"
    assert world.storage.sealed_items == 1


async def test_another_command_for_the_same_content_under_a_committed_id_is_a_conflict(world: World) -> None:
    one = put(world.engine, world.patient)
    await world.send(one)
    header, _ = command.parse(one.group.commands[0])
    header.expires_at_ms -= 1_000
    one.group.commands[0].CopyFrom(world.engine.sign_command(header.SerializeToString()))

    (answer,) = await world.send(one)

    assert (code_name(answer.receipt.code), answer.receipt.tx_id) == ("CONFLICT", "")
    assert not answer.HasField("stored")
    assert world.storage.sealed_items == 1


async def test_who_gives_up_while_a_resend_is_looked_up_is_not_told_that_nothing_was_done(
    world: World,
) -> None:
    consent = Consent(consent_id=uuid7(), patient=world.patient.address)
    group = CommandGroup(commands=[world.patient.sign_command(command.make(consent, channel=CHANNEL))])
    await world.start(group, (), 1_000)
    world.clock.ahead_ms = 3_600_000
    world.ledger.hold.clear()
    one, _ = awaited(group, (), 1_000)
    world.pipeline.start(one)
    await until(lambda: len(world.ledger.submitted) == 2, "the ledger decides")

    assert not one.withdraw()


async def test_a_stranger_cannot_ask_for_a_receipt_by_replaying_an_id(world: World) -> None:
    one, stranger = put(world.engine, world.patient), Person()
    world.ledger.register(stranger)
    await world.send(one)
    signed = one.group.commands[0]
    signed.signature = signature.sign(stranger.key, signature.COMMAND, signed.command)

    (answer,) = await world.send(one)

    assert code_name(answer.receipt.code) == "BAD_SIGNATURE"
    assert not answer.receipt.tx_id
    assert not world.ledger.looked_up


async def test_what_another_gateway_took_is_found_though_it_ends_too_soon_to_be_taken(
    world: World,
) -> None:
    now = time.time_ns() // 1_000_000
    one = put(world.engine, world.patient)
    header, _ = command.parse(one.group.commands[0])
    header.expires_at_ms = now + 5_000
    one.group.commands[0].CopyFrom(world.engine.sign_command(header.SerializeToString()))
    elsewhere, _ = build(world.ledger, world.storage, clock=lambda: now - 30_000)
    async with elsewhere:
        (first,) = await start(elsewhere, one.group, one.contents, 1_000)

    (again,) = await world.send(one)

    assert (code_name(again.receipt.code), again.receipt.already_committed) == ("OK", True)
    assert again.stored == first.stored
    assert world.storage.sealed_items == 1


async def test_a_replay_that_only_the_ledger_recognises_says_where_the_first_lies(world: World) -> None:
    # Another gateway of the member took it first: nobody here has seen it, and it is fresh.
    elsewhere, _ = build(world.ledger, world.storage)
    one = put(world.engine, world.patient)
    async with elsewhere:
        (first,) = await start(elsewhere, one.group, one.contents, 1_000)

    (again,) = await world.send(one)

    assert again.receipt.already_committed
    assert again.stored == first.stored
    assert world.storage.sealed_items == 2


async def test_a_replay_whose_place_cannot_be_looked_up_is_not_answered_with_another(world: World) -> None:
    elsewhere, _ = build(world.ledger, world.storage)
    one, fresh = put(world.engine, world.patient), put(world.engine, world.patient)
    async with elsewhere:
        (first,) = await start(elsewhere, one.group, one.contents, 1_000)
    world.ledger.blind = True

    replay, new = await asyncio.gather(world.send(one), world.send(fresh), return_exceptions=True)

    assert isinstance(replay, MeshError)
    assert (code_name(replay.code), replay.outcome) == ("UNAVAILABLE", code_pb2.OUTCOME_UNKNOWN)
    assert isinstance(new, list)
    assert code_name(new[0].receipt.code) == "OK"
    world.ledger.blind = False
    (again,) = await world.send(one)
    assert (again.receipt.already_committed, again.stored) == (True, first.stored)


async def test_while_nothing_can_be_looked_up_a_resend_is_left_open_and_seals_nothing(world: World) -> None:
    one = put(world.engine, world.patient)
    await world.send(one)
    world.ledger.blind = True

    with pytest.raises(MeshError) as caught:
        await world.send(one)

    assert code_name(caught.value.code) == "UNAVAILABLE"
    assert caught.value.outcome == code_pb2.OUTCOME_UNKNOWN
    assert world.storage.sealed_items == 1


@pytest.mark.parametrize("seen_here", [True, False])
async def test_a_hundred_replays_are_looked_up_by_one_question_for_all(world: World, seen_here: bool) -> None:
    ones = [put(world.engine, world.patient) for _ in range(100)]
    elsewhere, _ = build(world.ledger, world.storage)
    async with elsewhere:
        first = elsewhere if not seen_here else world.pipeline
        await asyncio.gather(*(start(first, one.group, one.contents, 1_000) for one in ones))
    world.ledger.questions, sealed = 0, len(world.storage.batches)

    answers: list[Answer] = []
    world.pipeline.start(*(Submission(one.group, one.contents, 1_000, answers.append) for one in ones))
    await until(lambda: len(answers) == 100, "all are answered")

    receipts = [answer[0].receipt for answer in answers if isinstance(answer, list)]
    assert [(code_name(one.code), one.already_committed) for one in receipts] == [("OK", True)] * 100
    # Whether they were committed, and where they lie; the ledger itself tells the first when it is sent them.
    assert world.ledger.questions == (2 if seen_here else len(world.storage.batches) - sealed)


async def test_the_same_group_twice_at_a_time_is_sealed_once(world: World) -> None:
    one = put(world.engine, world.patient)
    world.ledger.hold.clear()
    sent = [world.start(one.group, one.contents, 1_000) for _ in range(3)]
    await until(lambda: world.ledger.submitted, "the first is submitted")
    world.ledger.hold.set()

    answers = await asyncio.gather(*sent)

    assert len({answer[0].receipt.tx_id for answer in answers}) == 1
    assert [answer[0].receipt.already_committed for answer in answers] == [False, True, True]
    assert world.storage.sealed_items == 1


@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.parametrize("together", [True, False])
async def test_the_same_group_twice_while_nobody_can_say_who_signed_it_is_not_stuck_for_ever(
    world: World, together: bool, failures: int
) -> None:
    one = put(world.engine, world.patient)
    look_up, asked = world.ledger.identities, 0

    async def away_at_first(addresses: Sequence[str]) -> list[IdentityDocument | None]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked <= failures:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        return await look_up(addresses)

    world.ledger.identities = away_at_first  # type: ignore[method-assign]
    answers: list[Answer] = []
    ones = [Submission(one.group, one.contents, 1_000, answers.append) for _ in range(3)]
    for part in [ones] if together else [[each] for each in ones]:
        world.pipeline.start(*part)
    await until(lambda: len(answers) == len(ones), "all are answered")

    told = {isinstance(answer, list) for answer in answers}
    assert bool(world.ledger.committed) == (True in told), "what is told is true"
    async with asyncio.timeout(5.0):
        assert await world.code_of(one) == "OK"


@pytest.mark.parametrize(
    "code",
    # Also with a code that says "nothing was done": only the outcome says it.
    [*code_pb2.Code.values()][3:],
    ids=code_name,
)
async def test_what_may_have_been_committed_is_called_unknown_and_found_when_it_is_sent_again(
    world: World, code: int
) -> None:
    one = put(world.engine, world.patient)
    world.ledger.lost = MeshError(code, "the answer was lost")

    assert await world.code_of(one) == "UNKNOWN_OUTCOME"
    (cid,) = world.storage.stored

    world.ledger.lost = None
    (again,) = await world.send(one)
    assert (code_name(again.receipt.code), again.receipt.already_committed) == ("OK", True)
    assert again.stored.cid == cid
    assert list(world.storage.stored) == [cid]


async def test_a_ledger_that_sent_the_same_twice_still_says_where_the_content_lies(world: World) -> None:
    """After an answer it lost, the ledger resends by itself, and reports our own commit as the first."""
    one = put(world.engine, world.patient)
    submit = world.ledger.submit

    async def twice(submissions, seals):  # type: ignore[no-untyped-def]
        await submit(submissions, seals)
        return await submit(submissions, seals)

    world.ledger.submit = twice  # type: ignore[method-assign]

    (entry,) = await world.send(one)

    assert entry.receipt.already_committed
    assert list(world.storage.stored) == [entry.stored.cid]


async def test_who_goes_away_does_not_undo_what_was_sent(world: World) -> None:
    one = put(world.engine, world.patient)
    world.ledger.hold.clear()
    waiting = asyncio.create_task(_shielded(world, one))
    await until(lambda: world.ledger.submitted, "it is submitted")
    waiting.cancel()
    await asyncio.wait([waiting])
    world.ledger.hold.set()

    (again,) = await world.send(one)

    assert (code_name(again.receipt.code), world.storage.sealed_items) == ("OK", 1)


async def _shielded(world: World, one: Put) -> None:
    await asyncio.shield(world.start(one.group, one.contents, 1_000))


async def test_a_group_whose_parsing_crashes_is_answered_and_harms_no_neighbour(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good, parse = put(world.engine, world.patient), put(world.engine, world.patient), rules.parse

    def crash(group: CommandGroup) -> tuple[rules.Parsed, ...]:
        if group is bad.group:
            raise RuntimeError("no")
        return parse(group)

    monkeypatch.setattr(rules, "parse", crash)
    answers: dict[str, list[Answer]] = {"bad": [], "good": [], "again": []}
    world.pipeline.start(
        Submission(good.group, good.contents, 1_000, answers["good"].append),
        Submission(good.group, good.contents, 1_000, answers["again"].append),
        Submission(bad.group, bad.contents, 1_000, answers["bad"].append),
    )
    await until(lambda: all(answers.values()), "all are answered")

    [[failed], [first], [again]] = answers["bad"], answers["good"], answers["again"]
    assert isinstance(failed, MeshError)
    assert (code_name(failed.code), failed.outcome) == ("INTERNAL", code_pb2.OUTCOME_NOT_DONE)
    assert isinstance(first, list)
    assert isinstance(again, list)
    assert code_name(first[0].receipt.code) == "OK"
    assert len(world.ledger.submitted) == 1


async def test_an_answer_that_nobody_can_take_leaves_the_others_theirs(world: World) -> None:
    one = put(world.engine, world.patient)

    def crash(_: Answer) -> None:
        raise RuntimeError("no")

    answers: list[Answer] = []
    world.pipeline.start(
        Submission(one.group, one.contents, 1_000, crash),
        Submission(one.group, one.contents, 1_000, answers.append),
    )
    await until(lambda: answers, "the other is answered")

    async with asyncio.timeout(5.0):
        await world.pipeline.__aexit__()
