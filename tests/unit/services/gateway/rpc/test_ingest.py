"""One stream: out of order, a window that holds, and an end that loses nothing."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from prometheus_client.samples import Sample

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import Content, IngestItem, IngestRequest, IngestResult, SlowedReason
from services.gateway.config import MIB
from services.gateway.domain.session import CERTIFICATE, Session
from services.gateway.pipeline.client_quota import ClientLimits, ClientQuotas
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.rpc import stream_reader as reader_module
from services.gateway.rpc.forward import Arrived, Unreadable
from services.gateway.rpc.ingest import Ingest
from services.gateway.rpc.ingest_results import Results
from services.gateway.rpc.stream_reader import _SLICE
from services.runtime.byte_budget import ByteBudget
from services.runtime.errors import MeshError, code_name
from services.runtime.tasks import end
from tests.support.fakes.gateway_people import Person, put, put_together
from tests.support.waiting import until
from tests.unit.services.gateway.conftest import World

WINDOW = 8


class Sender:
    """Sends submissions, one in a message. Ends when `finish` is set.

    taken       how many were read from it
    returned    how many results came out (`stream` counts)
    most_ahead  by how many what was read was ever ahead of what came out
    """

    def __init__(self, *items: object) -> None:
        self.waiting = [IngestRequest(items=[one]) if isinstance(one, IngestItem) else one for one in items]
        self.taken = self.returned = self.most_ahead = 0
        self.told: list[tuple[str, int]] = []
        self.finish = asyncio.Event()
        self.finish.set()

    async def __aiter__(self) -> AsyncIterator[object]:
        for request in self.waiting:
            self.taken += 1
            self.most_ahead = max(self.most_ahead, self.taken - self.returned)
            yield request
        await self.finish.wait()


def submission(world: World, name: str, **changed: object) -> IngestItem:
    one = put(world.engine, world.patient, **changed)  # type: ignore[arg-type]
    return IngestItem(submission_id=name, group=one.group, contents=one.contents)


LIMITS = ClientLimits(commands=1_000, in_bytes=256 * MIB, streams=100)


def quotas_of(refused: RefusalQuotas | None = None, total: int = 256 * MIB, **limits: int) -> ClientQuotas:
    return ClientQuotas(replace(LIMITS, **limits), total, refused or RefusalQuotas(10_000, 10_000))


def ingest(world: World, stopping: asyncio.Event | None = None, quotas: ClientQuotas | None = None) -> Ingest:
    return Ingest(
        world.pipeline,
        world.metrics,
        window=WINDOW,
        quotas=quotas or quotas_of(),
        deadline_seconds=60.0,
        stopping=stopping or asyncio.Event(),
    )


def session(person: Person) -> Session:
    return Session(person.address, "engine", "MercyMSP", "t", CERTIFICATE, "x", 1 << 40)


async def stream(
    world: World,
    sender: Sender,
    stopping: asyncio.Event | None = None,
    quotas: ClientQuotas | None = None,
    person: Person | None = None,
) -> AsyncGenerator[IngestResult, None]:
    """The results, one by one. What else is said is put down in `sender.told`."""
    caller = session(person or world.engine)
    responses = ingest(world, stopping, quotas).stream(aiter(sender), caller)
    async with aclosing(responses):
        async for response in responses:
            if response.HasField("slowed"):
                sender.told.append(
                    (SlowedReason.Name(response.slowed.reason), response.slowed.retry_after_ms)
                )
            for result in response.results:
                sender.returned += 1
                yield result


async def test_each_submission_gets_its_result_by_its_name(world: World) -> None:
    names = [f"s{number}" for number in range(50)]
    sender, quotas = Sender(*(submission(world, name) for name in names)), quotas_of()

    results = [result async for result in stream(world, sender, None, quotas)]

    assert sorted(result.submission_id for result in results) == sorted(names)
    assert all(result.receipts[0].receipt.code == code_pb2.CODE_OK for result in results)
    assert quotas.memory.used == 0


async def test_submissions_of_one_message_are_taken_together_and_answered_each_by_itself(
    world: World,
) -> None:
    items = [submission(world, f"s{number}") for number in range(WINDOW)]
    items[3] = submission(world, "bad", version=0)

    results = {one.submission_id: one async for one in stream(world, Sender(IngestRequest(items=items)))}

    assert code_name(results.pop("bad").receipts[0].receipt.code) == "INVALID"
    assert len(results) == WINDOW - 1
    assert all(one.receipts[0].receipt.code == code_pb2.CODE_OK for one in results.values())
    assert len(world.ledger.asked_for) == 2  # the engine and the patient, once each for all


async def test_a_patient_that_is_no_address_is_asked_about_nowhere_and_harms_no_neighbour(
    world: World,
) -> None:
    class Nobody(Person):
        address = "x" * 1_000_000

    nobody, good = put(world.engine, Nobody()), submission(world, "good")
    bad = IngestItem(submission_id="bad", group=nobody.group, contents=nobody.contents)

    sender = Sender(IngestRequest(items=[bad, good]))
    results = {one.submission_id: one.receipts[0].receipt async for one in stream(world, sender)}

    assert (code_name(results["bad"].code), results["bad"].path) == ("INVALID", "body.put_record.patient")
    assert code_name(results["good"].code) == "OK"
    assert all(len(address) == 35 for address in world.ledger.asked_for)


async def test_when_nobody_can_be_looked_up_each_submission_is_told(world: World) -> None:
    world.ledger.away = True

    sender = Sender(IngestRequest(items=[submission(world, "a"), submission(world, "b")]))
    results = [(one.submission_id, code_name(one.error.code)) async for one in stream(world, sender)]

    assert sorted(results) == [("a", "UNAVAILABLE"), ("b", "UNAVAILABLE")]


async def test_a_message_with_more_submissions_than_the_window_is_taken_in_turns(world: World) -> None:
    items = [submission(world, f"s{number}") for number in range(3 * WINDOW)]

    results = [one async for one in stream(world, Sender(IngestRequest(items=items)))]

    assert sorted(one.submission_id for one in results) == sorted(one.submission_id for one in items)
    assert all(one.receipts[0].receipt.code == code_pb2.CODE_OK for one in results)


async def test_a_message_of_thousands_is_taken_in_slices_and_none_is_refused_for_their_number(
    world: World,
) -> None:
    items = [IngestItem(submission_id=f"s{number}") for number in range(1_500)]

    results = [one async for one in stream(world, Sender(IngestRequest(items=items)))]

    assert sorted(one.submission_id for one in results) == sorted(one.submission_id for one in items)
    assert {code_name(one.error.code) for one in results} == {"INVALID"}  # there is nothing in them


async def test_an_engine_that_fell_behind_is_told_at_once_and_read_again_within_seconds(
    world: World,
) -> None:
    clock = Clock()
    quotas = quotas_of(RefusalQuotas(5, 1.0, 3.0, clock))
    bad = [IngestItem(submission_id=f"bad{number}") for number in range(WINDOW)]
    sender = Sender(IngestRequest(items=bad), submission(world, "good"))
    answered: list[str] = []

    async def listen() -> None:
        async for result in stream(world, sender, None, quotas):
            answered.append(result.submission_id)

    listening = asyncio.create_task(listen())
    try:
        await until(lambda: bool(sender.told), "it is told")
        assert len(answered) == WINDOW
        assert sender.told == [("SLOWED_REASON_REFUSALS", 3_000)]
        assert sender.taken == 1

        clock.seconds += 3.001
        await until(listening.done, "it is read again")
    finally:
        await end(listening)
    assert answered[-1] == "good"
    assert {sample.labels["what"]: sample.value for sample in paused(world)}["refusals"] == 1


def paused(world: World) -> list[Sample]:
    (family,) = world.metrics._paused.collect()
    return [sample for sample in family.samples if sample.name.endswith("_total")]


async def test_a_client_has_one_window_whatever_streams_it_uses_and_another_has_its_own(world: World) -> None:
    quotas = quotas_of(commands=5)
    world.ledger.hold.clear()
    senders = [Sender(*(submission(world, f"s{number}") for number in range(4))) for _ in range(2)]
    streams = [asyncio.create_task(_collected(stream(world, sender, None, quotas))) for sender in senders]
    await until(lambda: sum(sender.taken for sender in senders) == 5, "the client's window is full")
    await until(lambda: any(sender.told for sender in senders), "it is told")
    other = Sender(submission(world, "other"))
    theirs = asyncio.create_task(_collected(stream(world, other, None, quotas, world.patient)))
    await until(lambda: other.taken == 1, "another client is read")
    world.ledger.hold.set()

    assert [len(await one) for one in (*streams, theirs)] == [4, 4, 1]
    told = {name for sender in senders for name, _ in sender.told}
    assert told == {"SLOWED_REASON_CALLER_IS_FULL"}


def group_of(world: World, name: str, count: int) -> IngestItem:
    one = put_together(world.engine, world.patient, count)
    return IngestItem(submission_id=name, group=one.group, contents=one.contents)


async def test_a_group_takes_as_much_of_the_window_as_it_has_commands(world: World) -> None:
    quotas = quotas_of(commands=10)
    world.ledger.hold.clear()
    senders = [Sender(*(group_of(world, f"g{number}", 4) for number in range(3))) for _ in range(2)]
    streams = [asyncio.create_task(_collected(stream(world, sender, None, quotas))) for sender in senders]
    await until(lambda: any(sender.told for sender in senders), "the client's window is full")
    under_way = len(world.storage.stored)
    world.ledger.hold.set()

    assert [len(await one) for one in streams] == [3, 3]
    assert under_way <= 10
    assert all(sender.most_ahead <= 3 for sender in senders)


async def test_each_command_of_a_refused_group_is_paid_for(world: World) -> None:
    quotas = quotas_of(RefusalQuotas(100, 0.001, clock=Clock()))
    bad = group_of(world, "bad", 4)
    bad.group.commands[3].signature = b"x"
    cannot_be_read = group_of(world, "unread", 7)
    cannot_be_read.group.commands[0].command = b"\xff"

    await _collected(stream(world, Sender(bad, cannot_be_read), None, quotas))

    refusals = quotas.of(world.engine.address).refusals
    refusals._bucket.spend(100.0, 88)
    assert refusals.wait_seconds() == 0
    refusals._bucket.spend(100.0, 1)
    assert refusals.wait_seconds() > 0


async def test_who_owes_for_refusals_holds_no_memory_that_others_need_while_it_waits(world: World) -> None:
    clock = Clock()
    quotas = quotas_of(RefusalQuotas(5, 1.0, 3.0, clock))
    bad = [IngestItem(submission_id=f"bad{number}") for number in range(_SLICE)]
    late = [submission(world, f"late{number}") for number in range(20)]
    sender, results = Sender(IngestRequest(items=[*bad, *late]), submission(world, "good")), {}

    async def listen() -> None:
        async for result in stream(world, sender, None, quotas):
            results[result.submission_id] = result

    listening = asyncio.create_task(listen())
    try:
        await until(lambda: bool(sender.told), "it waits")
        assert quotas.memory.used == 0
        clock.seconds += 3.001
        await until(listening.done, "it is read again")
    finally:
        await end(listening)

    left = [results[one.submission_id].error for one in late]
    assert {(one.code, one.outcome) for one in left} == {
        (code_pb2.CODE_RESOURCE_EXHAUSTED, code_pb2.OUTCOME_NOT_DONE)
    }
    assert all(one.retry_after_ms > 0 for one in left)
    assert results["good"].receipts[0].receipt.code == code_pb2.CODE_OK
    assert len(world.ledger.committed) == 1


async def test_who_takes_no_results_holds_no_memory_for_longer_than_a_submission_lives(world: World) -> None:
    quotas = quotas_of()
    items = [submission(world, f"s{number}") for number in range(3 * WINDOW)]
    sender = Sender(IngestRequest(items=items))
    front = ingest(world, None, quotas)
    front._deadline_seconds = 0.2
    responses = front.stream(aiter(sender), session(world.engine))
    first = await anext(responses)

    await until(lambda: quotas.memory.used == 0, "the memory is given back")
    taken = [*first.results, *[result async for response in responses for result in response.results]]

    assert sorted(one.submission_id for one in taken) == sorted(one.submission_id for one in items)
    codes = [code_name(one.error.code) for one in taken if not one.receipts]
    assert set(codes) == {"DEADLINE_EXCEEDED"}
    assert {one.error.outcome for one in taken if not one.receipts} == {code_pb2.OUTCOME_NOT_DONE}
    assert len(world.ledger.committed) == len(taken) - len(codes)


async def test_a_client_that_fills_its_part_of_the_memory_leaves_the_others_theirs(world: World) -> None:
    ones = [submission(world, f"s{number}") for number in range(4)]
    quotas = quotas_of(in_bytes=2 * ones[0].ByteSize() + 100)
    world.ledger.hold.clear()
    full, other = Sender(*ones), Sender(submission(world, "other"))
    tasks = [asyncio.create_task(_collected(stream(world, full, None, quotas)))]
    await until(lambda: len(full.told) == 1, "the client has what it may have")
    tasks.append(asyncio.create_task(_collected(stream(world, other, None, quotas, world.patient))))
    await until(lambda: other.taken == 1, "another client is read")
    world.ledger.hold.set()

    assert [len(await one) for one in tasks] == [4, 1]
    assert full.told == [("SLOWED_REASON_CALLER_IS_FULL", 0)]
    assert quotas.memory.used == 0


async def test_a_client_with_as_many_streams_as_it_may_have_keeps_nobody_elses_out(world: World) -> None:
    quotas = quotas_of(streams=2)
    sender = Sender()
    sender.finish.clear()
    opened = [asyncio.create_task(_collected(stream(world, sender, None, quotas))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(MeshError) as caught:
        await _collected(stream(world, Sender(), None, quotas))
    others = await _collected(stream(world, Sender(submission(world, "s")), None, quotas, world.patient))
    sender.finish.set()
    await asyncio.gather(*opened)

    assert code_name(caught.value.code) == "RESOURCE_EXHAUSTED"
    assert len(others) == 1
    assert await _collected(stream(world, Sender(), None, quotas)) == []


async def _collected(results: AsyncGenerator[IngestResult, None]) -> list[IngestResult]:
    return [result async for result in results]


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_client_whose_submissions_are_refused_without_end_is_read_as_fast_as_it_is_allowed(
    world: World,
) -> None:
    clock = Clock()
    quotas = quotas_of(RefusalQuotas(5, 100.0, clock=clock))
    bad = Sender(*(submission(world, f"bad{number}", version=0) for number in range(30)))
    answered: list[str] = []

    async def listen() -> None:
        async for result in stream(world, bad, None, quotas):
            answered.append(code_name(result.receipts[0].receipt.code))

    listening = asyncio.create_task(listen())
    try:
        # Some are on their way when the first five have been refused: no more than the window.
        await until(lambda: len(answered) >= 5, "as many as are allowed at once are answered")
        good = Sender(*(submission(world, f"good{number}") for number in range(10)))
        others = [one async for one in stream(world, good, None, quotas, world.patient)]
        assert all(one.receipts[0].receipt.code == code_pb2.CODE_OK for one in others)
        assert bad.taken <= 5 + WINDOW
        assert {sample.labels["what"]: sample.value for sample in paused(world)}["refusals"] == 1

        def time_passes() -> bool:
            clock.seconds += 10.0
            return listening.done()

        await until(time_passes, "the stream is read again, to its end")
    finally:
        await end(listening)
    assert answered == ["INVALID"] * 30


async def test_what_the_mesh_could_not_do_is_not_counted_against_the_client(world: World) -> None:
    world.ledger.away = True
    quotas = quotas_of(RefusalQuotas(1, 0.001, clock=Clock()))
    sender = Sender(*(submission(world, f"s{number}") for number in range(20)))

    codes = [code_name(one.error.code) async for one in stream(world, sender, None, quotas)]

    assert codes == ["UNAVAILABLE"] * 20


async def test_who_asks_after_an_outage_what_became_of_expired_submissions_is_not_slowed(
    world: World,
) -> None:
    quotas = quotas_of(RefusalQuotas(1, 0.001, clock=Clock()))
    long_ago = int(time.time() * 1000) - 3_600_000
    sender = Sender(*(submission(world, f"s{number}", now_ms=long_ago) for number in range(20)))

    codes = [code_name(one.receipts[0].receipt.code) async for one in stream(world, sender, None, quotas)]

    assert codes == ["EXPIRED"] * 20


async def test_a_quick_result_overtakes_a_slow_one(world: World) -> None:
    world.ledger.hold.clear()
    sender = Sender(submission(world, "slow"), submission(world, "quick", version=0))
    results = stream(world, sender)

    first = await asyncio.wait_for(anext(results), 5)
    world.ledger.hold.set()

    assert (first.submission_id, code_name(first.receipts[0].receipt.code)) == ("quick", "INVALID")
    assert [result.submission_id async for result in results] == ["slow"]


async def test_a_full_window_stops_the_reading_until_results_are_out(world: World) -> None:
    world.ledger.hold.clear()
    sender = Sender(*(submission(world, f"s{number}") for number in range(3 * WINDOW)))
    results = stream(world, sender)
    collected: list[IngestResult] = []

    async def collect() -> None:
        collected.extend([result async for result in results])

    collecting = asyncio.create_task(collect())
    await until(lambda: sender.taken == WINDOW, "the window is full")
    await until(lambda: len(world.storage.stored) == WINDOW, "all of it is under way")

    world.ledger.hold.set()
    await asyncio.wait_for(collecting, 10)
    assert len(collected) == 3 * WINDOW
    assert sender.most_ahead == WINDOW


async def test_results_that_nobody_takes_stop_the_reading_too(world: World) -> None:
    sender = Sender(*(submission(world, f"s{number}") for number in range(3 * WINDOW)))
    results = stream(world, sender)
    await anext(results)

    await until(lambda: len(world.ledger.committed) == WINDOW, "the window is committed")
    assert sender.taken == WINDOW
    assert len([result async for result in results]) == 3 * WINDOW - 1
    assert sender.most_ahead == WINDOW


async def test_memory_that_is_full_stops_the_reading_of_every_stream(world: World) -> None:
    world.ledger.hold.clear()
    ones = [submission(world, f"s{number}") for number in range(4)]
    sender, quotas = Sender(*ones), quotas_of(total=2 * ones[0].ByteSize() + 100)
    results = stream(world, sender, None, quotas)
    waiting = asyncio.ensure_future(anext(results))

    await until(lambda: len(world.storage.stored) == 2, "two are under way")
    assert sender.taken == 3  # the third is held, and nothing more is read

    world.ledger.hold.set()
    await waiting
    assert len([result async for result in results]) == 3


async def test_bad_names_and_oversize_get_a_result_and_the_stream_goes_on(world: World) -> None:
    oversize = IngestItem(submission_id="large", contents=[Content(content=bytes(16 * 1024 * 1024))])
    world.ledger.hold.clear()
    sender = Sender(
        submission(world, "a"),
        submission(world, "a"),
        submission(world, ""),
        submission(world, "x" * 65),
        oversize,
        Unreadable(b"\xff\xff"),
        submission(world, "b"),
    )
    results = stream(world, sender)

    refused = [await asyncio.wait_for(anext(results), 10) for _ in range(5)]
    world.ledger.hold.set()
    done = [result async for result in results]

    assert [(one.submission_id, code_name(one.error.code)) for one in refused] == [
        ("a", "INVALID"),
        ("", "INVALID"),
        ("x" * 64, "INVALID"),
        ("large", "TOO_LARGE"),
        ("", "INVALID"),
    ]
    assert "16 MiB" in refused[3].error.reason
    # Which of two of one name is meant, their sender cannot tell: only the others are certain.
    assert [one.error.outcome for one in refused] == [
        code_pb2.OUTCOME_UNSPECIFIED,
        *[code_pb2.OUTCOME_NOT_DONE] * 4,
    ]
    assert {one.submission_id for one in done} == {"a", "b"}
    assert all(one.receipts[0].receipt.code == code_pb2.CODE_OK for one in done)


async def test_a_message_without_a_submission_is_told_so_and_the_stream_goes_on(world: World) -> None:
    """Whoever waits for an answer to each message would wait for ever."""
    sender = Sender(IngestRequest(), submission(world, "a"))

    results = [result async for result in stream(world, sender)]

    [empty] = [one for one in results if one.HasField("error")]
    assert (empty.submission_id, code_name(empty.error.code), empty.error.path) == ("", "INVALID", "items")
    assert "holds no submission" in empty.error.reason
    assert empty.error.outcome == code_pb2.OUTCOME_NOT_DONE
    assert [one.submission_id for one in results if one.receipts] == ["a"]


async def test_an_error_of_one_batch_is_the_result_of_its_submissions(world: World) -> None:
    world.storage.failure = MeshError(code_pb2.CODE_UNAVAILABLE, "too few replicas", "", 100)

    results = [r async for r in stream(world, Sender(submission(world, "a"), submission(world, "b")))]

    assert [(code_name(r.error.code), r.error.retry_after_ms) for r in results] == [("UNAVAILABLE", 100)] * 2


async def test_a_shutdown_takes_nothing_more_and_gives_the_results_of_what_was_taken(world: World) -> None:
    stopping, sender = asyncio.Event(), Sender(submission(world, "a"))
    sender.finish.clear()
    world.ledger.hold.clear()
    results = stream(world, sender, stopping)
    first = asyncio.ensure_future(anext(results))
    await until(lambda: world.ledger.submitted, "it is under way")

    stopping.set()
    world.ledger.hold.set()

    assert (await first).submission_id == "a"
    with pytest.raises(MeshError) as caught:
        await anext(results)
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE


async def test_a_sender_that_breaks_off_leaves_nothing_running(world: World) -> None:
    sender = Sender(submission(world, "a"))
    sender.finish.clear()
    results = stream(world, sender)
    await anext(results)

    await asyncio.wait_for(results.aclose(), 5)

    def readers() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "ingest-reader"]

    await until(lambda: not readers(), "the reader has ended")


@pytest.mark.parametrize("answered", [True, False])
async def test_a_stream_that_breaks_off_keeps_nothing_of_its_clients_window(
    world: World, answered: bool
) -> None:
    quotas = quotas_of(commands=WINDOW)
    other = Sender()
    other.finish.clear()
    # Another stream of the client stays open: what they share is not made anew.
    beside = asyncio.create_task(_collected(stream(world, other, None, quotas)))
    await asyncio.sleep(0)
    caller = quotas.of(world.engine.address)
    sender = Sender(*(submission(world, f"s{number}") for number in range(WINDOW)))
    sender.finish.clear()
    results = stream(world, sender, None, quotas)
    if answered:
        await anext(results)
    else:
        world.ledger.hold.clear()
        task = asyncio.create_task(anext(results))
        await until(lambda: caller.window.used == WINDOW, "all of it is under way")
        await end(task)
    await results.aclose()
    world.ledger.hold.set()

    await until(lambda: caller.window.used == 0, "the window is the client's again", 5)
    other.finish.set()
    assert await beside == []


async def test_what_comes_after_a_sender_was_turned_off_is_raised_when_results_are_out(world: World) -> None:
    class TooLarge(Sender):
        async def __aiter__(self) -> AsyncIterator[object]:
            yield self.waiting[0]
            raise MeshError(code_pb2.CODE_TOO_LARGE, "over the limit")

    results = stream(world, TooLarge(submission(world, "a")))

    assert (await anext(results)).submission_id == "a"
    with pytest.raises(MeshError) as caught:
        await anext(results)
    assert caught.value.code == code_pb2.CODE_TOO_LARGE


async def test_a_message_is_not_decoded_before_there_is_room_for_it(world: World) -> None:
    decoded: list[int] = []

    def from_string(raw: bytes) -> IngestRequest:
        decoded.append(len(raw))
        return IngestRequest.FromString(raw)

    messages = [
        IngestRequest(items=[submission(world, name)]).SerializeToString() for name in ("a", "b", "c")
    ]
    quotas = quotas_of(in_bytes=2 * len(messages[0]) + 10)
    world.ledger.hold.clear()
    sender = Sender(*(Arrived(raw, from_string) for raw in messages))
    results = asyncio.create_task(_collected(stream(world, sender, None, quotas)))
    await until(lambda: bool(sender.told), "it waits for room")
    before = list(decoded)
    world.ledger.hold.set()

    assert len(await results) == 3
    assert [len(before), len(decoded)] == [2, 3]
    assert quotas.memory.used == 0


async def test_what_a_message_held_is_given_back_whatever_became_of_it(world: World) -> None:
    oversize = IngestItem(submission_id="large", contents=[Content(content=bytes(16 * 1024 * 1024))])
    quotas = quotas_of(in_bytes=1 << 20)
    caller = quotas.of(world.engine.address)
    sender = Sender(
        IngestRequest(
            items=[submission(world, "a"), submission(world, "a"), oversize, submission(world, "b")]
        ),
        Arrived(b"\xff\xff", IngestRequest.FromString),
    )

    results = await _collected(stream(world, sender, None, quotas))

    assert len(results) == 5
    assert (quotas.memory.used, caller.memory.used) == (0, 0)


async def test_a_shutdown_in_the_middle_of_a_message_answers_each_submission_of_it_once(world: World) -> None:
    items = [submission(world, f"s{number}") for number in range(3 * WINDOW)]
    sender, stopping, quotas = Sender(IngestRequest(items=items)), asyncio.Event(), quotas_of()
    world.ledger.hold.clear()
    results: list[IngestResult] = []

    async def listen() -> None:
        async for result in stream(world, sender, stopping, quotas):
            results.append(result)

    listening = asyncio.create_task(listen())
    await until(lambda: len(world.storage.stored) == WINDOW, "the window is under way")
    stopping.set()
    world.ledger.hold.set()
    async with asyncio.timeout(5):
        with pytest.raises(MeshError) as caught:
            await listening

    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert sorted(one.submission_id for one in results) == sorted(one.submission_id for one in items)
    left = [one.error for one in results if not one.receipts]
    assert {(one.code, one.outcome) for one in left} == {
        (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_NOT_DONE)
    }
    assert len(world.ledger.committed) == len(items) - len(left) == WINDOW
    assert quotas.memory.used == 0


async def test_a_shutdown_while_a_message_waits_for_memory_answers_what_it_holds(world: World) -> None:
    ones = [submission(world, f"s{number}") for number in range(3)]
    quotas, stopping = quotas_of(in_bytes=2 * ones[0].ByteSize() + 100), asyncio.Event()
    world.ledger.hold.clear()
    sender = Sender(*ones)
    results: list[IngestResult] = []

    async def listen() -> None:
        async for result in stream(world, sender, stopping, quotas):
            results.append(result)

    listening = asyncio.create_task(listen())
    await until(lambda: bool(sender.told), "the third waits for memory")
    stopping.set()
    world.ledger.hold.set()
    async with asyncio.timeout(5):
        with pytest.raises(MeshError):
            await listening

    told = {one.submission_id: one.error.outcome for one in results}
    assert told == {"s0": 0, "s1": 0, "s2": code_pb2.OUTCOME_NOT_DONE}
    assert quotas.memory.used == 0


async def test_a_message_that_nobody_can_decode_ends_the_stream_after_the_results_of_the_others(
    world: World,
) -> None:
    def crash(_: bytes) -> IngestRequest:
        raise RuntimeError("no")

    sender, quotas = Sender(submission(world, "a"), Arrived(b"x", crash)), quotas_of()
    results = stream(world, sender, None, quotas)

    async with asyncio.timeout(5):
        assert (await anext(results)).submission_id == "a"
        with pytest.raises(MeshError) as caught:
            await anext(results)
    assert caught.value.code == code_pb2.CODE_INTERNAL
    assert quotas.memory.used == 0


async def test_a_submission_that_crashes_when_it_is_taken_harms_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(item: IngestItem) -> None:
        if isinstance(item, IngestItem) and item.submission_id == "bad":
            raise RuntimeError("no")

    monkeypatch.setattr(reader_module, "check_size", crash)
    items = [submission(world, name) for name in ("a", "bad", "b")]
    quotas = quotas_of()

    async with asyncio.timeout(5):
        results = await _collected(stream(world, Sender(IngestRequest(items=items)), None, quotas))

    told = {one.submission_id: (code_name(one.error.code), one.error.outcome) for one in results}
    assert told.pop("bad") == ("INTERNAL", code_pb2.OUTCOME_NOT_DONE)
    assert sorted(told) == ["a", "b"]
    assert quotas.memory.used == 0


async def test_what_is_refused_when_its_sender_has_just_gone_keeps_nothing_of_the_clients_window() -> None:
    quota = ByteBudget(WINDOW)
    await quota.take(2)
    results = Results(quota)
    results.put(IngestResult(submission_id="ready"), 1)

    results.leave()
    results.put(IngestResult(submission_id="refused"), 1)

    assert quota.used == 0


async def test_the_rest_of_a_message_leaves_open_what_has_the_name_of_one_under_way(world: World) -> None:
    bad = [IngestItem(submission_id=f"bad{number}") for number in range(_SLICE)]
    items = [submission(world, "same"), *bad, submission(world, "same"), submission(world, "other")]
    quotas = quotas_of(RefusalQuotas(5, 1.0, 3.0, Clock()))
    world.ledger.hold.clear()
    results, told = stream(world, Sender(IngestRequest(items=items)), None, quotas), {}

    async with asyncio.timeout(5):
        while "other" not in told:
            one = await anext(results)
            told[one.submission_id] = one.error.outcome
    world.ledger.hold.set()
    await results.aclose()

    assert told["same"] == code_pb2.OUTCOME_UNSPECIFIED
    assert told["other"] == code_pb2.OUTCOME_NOT_DONE
