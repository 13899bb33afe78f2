import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from services.runtime.batching import MicroBatcher
from services.runtime.deadline import current_deadline
from services.runtime.errors import MeshError
from tests.support.waiting import until


class Ledger:
    """Takes batches; holds them back until it may answer."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.answer: Callable[[str], Any] = str.upper

    async def process(self, items: list[str]) -> list[Any]:
        self.batches.append(items)
        await self.may_answer.wait()
        return [self.answer(item) for item in items]


def batcher(ledger: Ledger, **changes: Any) -> MicroBatcher[str, str]:
    limits: dict[str, Any] = {
        "max_count": 10,
        "max_bytes": 1000,
        "linger_seconds": 30.0,
        "max_queue": 100,
        "size_of": len,
        "max_in_flight": 2,
    }
    return MicroBatcher(ledger.process, **(limits | changes))


async def busy(ledger: Ledger, batches: MicroBatcher[str, str]) -> asyncio.Task[str]:
    """Have one batch in flight that does not end."""
    ledger.may_answer.clear()
    task = asyncio.create_task(batches.submit("first"))
    await until(lambda: ledger.batches == [["first"]])
    return task


async def refusal(task: Any) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await task
    return caught.value


async def test_what_may_wait_of_one_caller_is_counted_by_what_its_items_weigh() -> None:
    ledger = Ledger()
    limits: dict[str, Any] = {"max_in_flight": 1, "max_per_caller": 8, "max_queue": 12}
    async with batcher(ledger, **limits, weight_of=len, key_of=lambda item: (item[0], "")) as batches:
        first = await busy(ledger, batches)
        waiting = [batches.enqueue("aaaa"), batches.enqueue("aaaa")]
        with pytest.raises(MeshError, match="of the caller's wait"):
            batches.enqueue("a")
        waiting.append(batches.enqueue("bbbb"))
        with pytest.raises(MeshError, match="the queue of 12 is full"):
            batches.enqueue("c")
        waiting[0].cancel()
        waiting.append(batches.enqueue("c"))
        ledger.may_answer.set()

        assert await asyncio.gather(first, *waiting[1:]) == ["FIRST", "AAAA", "BBBB", "C"]


async def test_an_idle_batcher_does_not_linger() -> None:
    ledger = Ledger()
    async with asyncio.timeout(5), batcher(ledger, linger_seconds=60) as batches:
        assert await batches.submit("a") == "A"
        assert await batches.submit("b") == "B"

    assert ledger.batches == [["a"], ["b"]]


async def test_what_is_submitted_together_leaves_together_and_each_gets_its_own() -> None:
    ledger = Ledger()
    async with batcher(ledger) as batches:
        answers = await asyncio.gather(*(batches.submit(letter) for letter in "abcdefg"))

    assert answers == list("ABCDEFG")
    assert ledger.batches == [list("abcdefg")]


async def test_while_busy_a_batch_waits_until_it_is_full_by_count() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_count=3) as batches:
        tasks = [await busy(ledger, batches)]
        tasks += [asyncio.create_task(batches.submit(letter)) for letter in "ab"]
        await asyncio.sleep(0.05)
        assert len(ledger.batches) == 1
        tasks.append(asyncio.create_task(batches.submit("c")))
        await until(lambda: len(ledger.batches) == 2)
        assert ledger.batches[1] == ["a", "b", "c"]
        ledger.may_answer.set()
        await asyncio.gather(*tasks)


async def test_a_batch_is_cut_by_bytes() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_bytes=10) as batches:
        await asyncio.gather(*(batches.submit(item) for item in ("aaaa", "bbbb", "cccc", "d" * 10, "e")))

    assert ledger.batches == [["aaaa", "bbbb"], ["cccc"], ["d" * 10], ["e"]]


async def test_while_busy_an_item_waits_no_longer_than_the_linger() -> None:
    ledger = Ledger()
    async with batcher(ledger, linger_seconds=0.05) as batches:
        first = await busy(ledger, batches)
        second = asyncio.create_task(batches.submit("second"))
        await until(lambda: ledger.batches[1:] == [["second"]], "lingered out")
        ledger.may_answer.set()
        await asyncio.gather(first, second)


async def test_the_linger_grows_with_the_batches_in_flight() -> None:
    ledger = Ledger()
    async with batcher(ledger, linger_seconds=0.1, max_in_flight=3) as batches:
        first = await busy(ledger, batches)
        second = asyncio.create_task(batches.submit("second"))
        await until(lambda: len(ledger.batches) == 2, "one linger for one batch in flight")
        loop = asyncio.get_running_loop()
        since = loop.time()
        third = asyncio.create_task(batches.submit("third"))
        await until(lambda: len(ledger.batches) == 3, "lingered out")
        assert loop.time() - since >= 0.2
        ledger.may_answer.set()
        await asyncio.gather(first, second, third)


async def test_enough_for_a_batch_does_not_wait_for_more() -> None:
    ledger = Ledger()
    async with batcher(ledger, enough=2) as batches:
        first = await busy(ledger, batches)
        others = [batches.enqueue("a"), batches.enqueue("b")]
        await until(lambda: ledger.batches[1:] == [["a", "b"]], "left at once")
        ledger.may_answer.set()
        await asyncio.gather(first, *others)


async def left_after_a_batch(batches: MicroBatcher[str, str], items: str) -> float:
    """Seconds between a batch of these items and the one after it."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    await asyncio.gather(*map(batches.submit, items))
    await batches.submit("next")
    return loop.time() - since


async def test_the_more_a_batch_had_the_later_leaves_the_next() -> None:
    async with batcher(Ledger(), spacing_seconds=0.03, most_spacing_seconds=60.0) as batches:
        assert await left_after_a_batch(batches, "abcd") >= 0.12
        assert await left_after_a_batch(batches, "abcdefgh") >= 0.24


async def test_batches_are_no_further_apart_than_the_most_however_large_they_are() -> None:
    async with (
        asyncio.timeout(5),
        batcher(Ledger(), spacing_seconds=60.0, most_spacing_seconds=0.1) as batches,
    ):
        assert await left_after_a_batch(batches, "abcdefgh") >= 0.1


async def test_a_full_batch_keeps_no_distance() -> None:
    ledger = Ledger()
    async with (
        asyncio.timeout(5),
        batcher(ledger, max_count=2, spacing_seconds=60.0, most_spacing_seconds=60.0) as batches,
    ):
        await asyncio.gather(*map(batches.submit, "abcdef"))

    assert ledger.batches == [["a", "b"], ["c", "d"], ["e", "f"]]


async def test_closing_keeps_no_distance() -> None:
    ledger = Ledger()
    async with (
        asyncio.timeout(5),
        batcher(ledger, spacing_seconds=60.0, most_spacing_seconds=60.0) as batches,
    ):
        await batches.submit("a")
        left = batches.enqueue("b")

    assert left.result() == "B"


async def test_what_was_cancelled_in_the_queue_stays_behind_and_takes_nobodys_place() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_queue=2, max_in_flight=1) as batches:
        first = await busy(ledger, batches)
        gone, stays = batches.enqueue("gone"), batches.enqueue("stays")
        gone.cancel()
        last = batches.enqueue("last")
        ledger.may_answer.set()
        assert await asyncio.gather(first, stays, last) == ["FIRST", "STAYS", "LAST"]
    assert ledger.batches == [["first"], ["stays", "last"]]


async def test_no_more_batches_are_in_flight_than_allowed() -> None:
    ledger = Ledger()
    ledger.may_answer.clear()
    async with batcher(ledger, max_count=1, max_in_flight=2) as batches:
        tasks = [asyncio.create_task(batches.submit(letter)) for letter in "abcd"]
        await until(lambda: len(ledger.batches) == 2)
        await asyncio.sleep(0.05)
        assert len(ledger.batches) == 2
        ledger.may_answer.set()
        assert await asyncio.gather(*tasks) == list("ABCD")


async def test_a_full_queue_refuses_with_a_delay_and_takes_again_when_there_is_room() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_queue=2, max_in_flight=1) as batches:
        tasks = [await busy(ledger, batches)]
        tasks += [asyncio.create_task(batches.submit(letter)) for letter in "ab"]
        await asyncio.sleep(0)
        err = await refusal(batches.submit("c"))
        ledger.may_answer.set()
        await asyncio.gather(*tasks)
        assert await batches.submit("c") == "C"

    assert err.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert err.retry_after_ms > 0


async def test_an_oversize_item_is_refused_and_harms_no_other() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_bytes=10) as batches:
        answers = await asyncio.gather(
            batches.submit("a"), batches.submit("x" * 11), batches.submit("b"), return_exceptions=True
        )

    assert answers[0] == "A"
    assert answers[2] == "B"
    assert isinstance(answers[1], MeshError)
    assert answers[1].code == code_pb2.CODE_TOO_LARGE
    assert "10 bytes" in answers[1].reason


async def test_one_items_exception_is_its_own() -> None:
    ledger = Ledger()
    bad = MeshError(code_pb2.CODE_INVALID, "bad")
    ledger.answer = lambda item: bad if item == "b" else item
    async with batcher(ledger) as batches:
        answers = await asyncio.gather(*(batches.submit(x) for x in "abc"), return_exceptions=True)

    assert answers == ["a", bad, "c"]


async def test_a_crash_of_the_batch_is_everybodys_and_the_next_batch_goes_on() -> None:
    ledger = Ledger()

    def crash(_: str) -> str:
        raise RuntimeError("Jane Doe")

    ledger.answer = crash
    async with batcher(ledger) as batches:
        answers = await asyncio.gather(*(batches.submit(x) for x in "ab"), return_exceptions=True)
        ledger.answer = str.upper
        assert await batches.submit("c") == "C"

    assert [answer.code for answer in answers if isinstance(answer, MeshError)] == [
        code_pb2.CODE_INTERNAL
    ] * 2
    assert "Jane" not in str(answers)


async def test_a_result_too_few_is_a_fault_and_hangs_nobody() -> None:
    async def process(_: list[str]) -> list[Any]:
        return []

    ledger = Ledger()
    ledger.process = process  # type: ignore[method-assign]
    async with batcher(ledger) as batches:
        assert (await refusal(batches.submit("a"))).code == code_pb2.CODE_INTERNAL


async def test_who_gives_up_waiting_leaves_the_queue() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_in_flight=1) as batches:
        first = await busy(ledger, batches)
        gone = asyncio.create_task(batches.submit("gone"))
        stays = asyncio.create_task(batches.submit("stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        ledger.may_answer.set()
        assert await asyncio.gather(first, stays) == ["FIRST", "STAYS"]

    assert ledger.batches == [["first"], ["stays"]]


async def test_who_gives_up_in_flight_takes_nobody_along() -> None:
    ledger = Ledger()
    ledger.may_answer.clear()
    async with batcher(ledger) as batches:
        gone = asyncio.create_task(batches.submit("gone"))
        stays = asyncio.create_task(batches.submit("stays"))
        await until(lambda: ledger.batches == [["gone", "stays"]])
        gone.cancel()
        ledger.may_answer.set()
        assert await stays == "STAYS"


async def test_a_steady_stream_of_submissions_puts_nobody_off() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_count=1_000, max_bytes=10_000, max_queue=1_000) as batches:

        async def submit_after(turns: int) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await batches.submit("x")

        # Each turn of the loop one submission, before what the one of the turn before has set off.
        await asyncio.gather(*(submit_after(turns) for turns in range(50, 0, -1)))

    assert len(ledger.batches[0]) < 10


async def test_closing_processes_what_waits_and_takes_nothing_more() -> None:
    ledger = Ledger()
    batches = batcher(ledger, max_in_flight=1, max_count=2)
    tasks = [await busy(ledger, batches)]
    tasks += [asyncio.create_task(batches.submit(letter)) for letter in "abcde"]
    await asyncio.sleep(0)
    closing = asyncio.create_task(batches.close())
    await asyncio.sleep(0)
    err = await refusal(batches.submit("late"))
    ledger.may_answer.set()
    await closing

    assert [task.result() for task in tasks] == ["FIRST", "A", "B", "C", "D", "E"]
    assert err.code == code_pb2.CODE_UNAVAILABLE


async def test_a_batch_does_not_inherit_the_deadline_of_one_of_its_callers() -> None:
    seen: list[float | None] = []

    async def process(items: list[str]) -> list[Any]:
        seen.append(current_deadline.get())
        return list(items)

    ledger = Ledger()
    ledger.process = process  # type: ignore[method-assign]
    async with batcher(ledger) as batches:
        current_deadline.set(1.0)
        await batches.submit("a")

    assert seen == [None]


async def test_what_was_taken_is_for_the_batch_to_answer_and_nothing_else() -> None:
    """Taken is told in the same turn of the loop: the batch itself begins a turn later."""
    ledger = Ledger()
    async with batcher(ledger) as batches:
        taken = batches.enqueue("taken")
        batches._send_what_is_due()
        seen = (taken.taken, list(ledger.batches))
        taken.cancel()

    assert seen == (True, [])
    assert ledger.batches == [["taken"]]


async def test_what_is_cancelled_in_time_was_never_taken() -> None:
    ledger = Ledger()
    async with batcher(ledger) as batches:
        gone = batches.enqueue("gone")
        gone.cancel()
        batches._send_what_is_due()

    assert not gone.taken
    assert ledger.batches == []


async def test_an_item_whose_caller_has_given_up_is_not_taken_and_certainly_not_done() -> None:
    ledger = Ledger()
    now = asyncio.get_running_loop().time()
    async with batcher(ledger, max_in_flight=1) as batches:
        first = await busy(ledger, batches)
        late, in_time = batches.enqueue("late", ends_at=now), batches.enqueue("in time", ends_at=now + 3_600)
        ledger.may_answer.set()
        await first
        err = await refusal(late)
        assert await in_time == "IN TIME"

    assert (err.code, err.outcome) == (code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.OUTCOME_NOT_DONE)
    assert not late.taken
    assert ledger.batches == [["first"], ["in time"]]


async def test_a_lone_record_does_not_wait_for_all_that_another_client_has_sent_before() -> None:
    ledger = Ledger()
    async with batcher(
        ledger, max_queue=1_000, max_in_flight=1, key_of=lambda item: (item[0], item)
    ) as batches:
        first = await busy(ledger, batches)
        waiting = [batches.enqueue(f"a{number}") for number in range(100)]
        waiting += [batches.enqueue("b"), batches.enqueue("c")]
        ledger.may_answer.set()
        await asyncio.gather(first, *waiting)

    assert ledger.batches[1] == ["a0", "b", "c", *(f"a{number}" for number in range(1, 8))]


async def test_of_one_client_a_patient_with_one_record_does_not_wait_for_one_with_many() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_in_flight=1, key_of=lambda item: ("client", item[0])) as batches:
        first = await busy(ledger, batches)
        waiting = [batches.enqueue(item) for item in ("x1", "x2", "x3", "y1", "x4", "y2")]
        ledger.may_answer.set()
        await asyncio.gather(first, *waiting)

    assert ledger.batches[1] == ["x1", "y1", "x2", "y2", "x3", "x4"]


async def test_a_client_that_fills_its_part_of_the_queue_leaves_the_others_theirs() -> None:
    ledger = Ledger()
    async with batcher(
        ledger, max_queue=5, max_per_caller=3, max_in_flight=1, key_of=lambda item: (item[0], "")
    ) as batches:
        tasks: list[Any] = [await busy(ledger, batches)]
        tasks += [batches.enqueue(f"a{number}") for number in range(3)]
        with pytest.raises(MeshError) as over:
            batches.enqueue("a3")
        tasks += [batches.enqueue("b0"), batches.enqueue("b1")]
        with pytest.raises(MeshError) as full:
            batches.enqueue("c0")
        ledger.may_answer.set()
        await asyncio.gather(*tasks)

    assert [caught.value.outcome for caught in (over, full)] == [code_pb2.OUTCOME_NOT_DONE] * 2
    assert "3 of the caller's" in over.value.reason
    assert "queue of 5" in full.value.reason


def calls_made_by(work: Callable[[], Any]) -> int:
    """How many functions are called meanwhile, those of C included."""
    count = 0

    def count_it(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    # What the garbage collector calls, of whatever test went before, is not the work's.
    gc.disable()
    sys.setprofile(count_it)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("gone", [0, 400])
async def test_to_refuse_costs_the_same_however_many_wait(gone: int) -> None:
    async def cost(waiting: int) -> int:
        ledger = Ledger()
        async with batcher(ledger, max_queue=waiting, max_in_flight=1) as batches:
            first = await busy(ledger, batches)
            items = [batches.enqueue("x") for _ in range(waiting)]
            for item in items[:gone]:
                item.cancel()
            items = items[gone:] + [batches.enqueue("y") for _ in range(gone)]

            def refused() -> None:
                with pytest.raises(MeshError):
                    batches.enqueue("z")

            calls = calls_made_by(refused)
            ledger.may_answer.set()
            await asyncio.gather(first, *items)
        return calls

    assert await cost(500) == await cost(5_000)


async def test_who_comes_and_goes_without_end_fills_no_memory() -> None:
    ledger = Ledger()
    async with batcher(ledger, max_in_flight=1) as batches:
        first = await busy(ledger, batches)
        stays = batches.enqueue("stays")
        for _ in range(10_000):
            batches.enqueue("gone").cancel()
        lying = len(batches._room._queue)
        ledger.may_answer.set()
        await asyncio.gather(first, stays)

    assert lying <= 1_001
    assert ledger.batches == [["first"], ["stays"]]
