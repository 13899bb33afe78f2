"""Work in a process of its own: what it gives, what it raises, and what becomes of it when it ends."""

import asyncio
import io
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from services.runtime.side_process import SideProcess, serve
from services.runtime.telemetry import Metrics
from tests.support.waiting import until


def pid_and(text: str) -> tuple[int, str]:
    return os.getpid(), text.upper()


def refuses(path: str) -> None:
    raise Refused.invalid("not so", path).at(3)


class Unpicklable(Exception):
    """It cannot be made from what it says."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path + reason)


def raises_what_cannot_be_pickled() -> None:
    raise Unpicklable("a", "b")


def raises_what_holds_a_function() -> None:
    raise ValueError(lambda: None)


def gives_a_function() -> Callable[[], None]:
    return lambda: None


def dies() -> None:
    os._exit(3)


def prints() -> str:
    print("what is no answer")
    return "an answer"


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def goes_on() -> None:
    while True:
        pass


def fills_memory() -> int:
    return len(bytearray(4 << 30))


def ends_as_rust_does_without_memory() -> None:
    os.abort()


class Panic(BaseException):
    """As pyo3 raises it: no Exception."""


def panics() -> None:
    raise Panic


def limits() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_CORE)[0]


@pytest.fixture
async def aside() -> AsyncIterator[SideProcess]:
    async with SideProcess(Metrics("gateway"), name="check", deadline_seconds=30.0) as aside:
        yield aside


async def test_work_is_done_in_another_process_which_stays(aside: SideProcess) -> None:
    first, second = [await aside.run(pid_and, word) for word in ("a", "b")]

    assert [first[1], second[1]] == ["A", "B"]
    assert first[0] == second[0] != os.getpid()


async def test_what_it_raises_is_raised_here_whole(aside: SideProcess) -> None:
    with pytest.raises(Refused) as caught:
        await aside.run(refuses, "Observation.code")

    assert (caught.value.code, caught.value.path, caught.value.index) == (
        code_pb2.CODE_INVALID,
        "Observation.code",
        3,
    )


async def test_a_process_that_ends_costs_the_job_it_had_and_no_other(aside: SideProcess) -> None:
    with pytest.raises(MeshError) as caught:
        await aside.run(dies)

    assert (caught.value.code, caught.value.nothing_done) == (code_pb2.CODE_UNAVAILABLE, True)
    assert (await aside.run(pid_and, "next"))[1] == "NEXT"


async def test_a_job_that_takes_too_long_is_ended_with_its_process(
    aside: SideProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await aside.run(pid_and, "it is there")
    with monkeypatch.context() as short:
        short.setattr(aside, "_deadline_seconds", 0.1)
        with pytest.raises(MeshError) as caught:
            await aside.run(sleeps, 3_600.0)
    assert (await aside.run(pid_and, "next"))[0] != first

    assert (caught.value.code, caught.value.nothing_done) == (code_pb2.CODE_TOO_LARGE, True)


@pytest.mark.parametrize("work", [goes_on, fills_memory, ends_as_rust_does_without_memory, panics])
async def test_who_asks_for_too_much_time_or_memory_is_refused_for_it_and_its_neighbour_is_served(
    work: Callable[[], object],
) -> None:
    async with SideProcess(
        Metrics("gateway"), name="check", cpu_seconds=0.5, memory_bytes=1 << 30, deadline_seconds=60.0
    ) as aside:
        first, _ = await aside.run(pid_and, "it is there")
        greedy = asyncio.create_task(aside.run(work, caller="greedy"))
        await asyncio.sleep(0)
        neighbour = asyncio.create_task(aside.run(pid_and, "a", caller="neighbour"))
        with pytest.raises(MeshError) as caught:
            await greedy

        again, said = await neighbour

    assert (caught.value.code, caught.value.nothing_done) == (code_pb2.CODE_TOO_LARGE, True)
    assert (said, again != first) == ("A", True)


async def test_who_took_too_much_stands_back_for_as_long_as_it_took_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with SideProcess(Metrics("gateway"), name="check", deadline_seconds=60.0) as aside:
        clock = _ByHand(aside, monkeypatch)
        clock.job_takes = 7.0
        with pytest.raises(MeshError):
            await aside.run(dies, caller="greedy")
        clock.job_takes = 0.0

        with pytest.raises(MeshError) as stands_back:
            await aside.run(pid_and, "a", caller="greedy")
        _, neighbours = await aside.run(pid_and, "b", caller="neighbour")
        clock.ahead += stands_back.value.retry_after_ms / 1000
        _, later = await aside.run(pid_and, "c", caller="greedy")

    assert stands_back.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert stands_back.value.nothing_done
    assert stands_back.value.retry_after_ms > 0
    assert (neighbours, later) == ("B", "C")


class _ByHand:
    """The loop's clock as the process of a job sees it: ahead by what the test says."""

    def __init__(self, aside: SideProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = self.job_takes = 0.0
        loop = asyncio.get_running_loop()
        time_of_loop, ask = loop.time, aside._ask

        async def asked(job: Any) -> Any:
            self.ahead += self.job_takes
            return await ask(job)

        monkeypatch.setattr(loop, "time", lambda: time_of_loop() + self.ahead)
        monkeypatch.setattr(aside, "_ask", asked)


async def test_a_neighbour_whose_deadline_passes_meanwhile_is_told_that_nothing_was_done(
    aside: SideProcess,
) -> None:
    await aside.run(pid_and, "it is there")
    long = asyncio.create_task(aside.run(sleeps, 3_600.0, caller="a"))
    await asyncio.sleep(0)

    with pytest.raises(MeshError) as caught:
        await aside.run(pid_and, "b", caller="b", ends_at=asyncio.get_running_loop().time() + 0.05)
    long.cancel()
    process = aside._process
    assert process is not None
    process.popen.kill()

    assert (caught.value.code, caught.value.nothing_done) == (code_pb2.CODE_DEADLINE_EXCEEDED, True)


async def test_it_leaves_no_picture_of_its_memory_and_has_no_more_of_it_than_it_may() -> None:
    async with SideProcess(Metrics("gateway"), name="check", memory_bytes=1 << 30) as aside:
        assert await aside.run(limits) == (1 << 30, 0)


async def test_one_callers_large_jobs_do_not_stand_before_anothers(aside: SideProcess) -> None:
    await aside.run(pid_and, "it is there")
    done: list[str] = []

    async def job(caller: str, number: int) -> None:
        await aside.run(sleeps, 0.05, caller=caller)
        done.append(f"{caller}{number}")

    many = [asyncio.create_task(job("a", number)) for number in range(10)]
    await asyncio.sleep(0)  # all of them are begun
    await job("b", 0)
    await asyncio.gather(*many)

    assert done.index("b0") <= 2


async def test_leaving_ends_the_process() -> None:
    async with SideProcess(Metrics("gateway"), name="check") as aside:
        pid, _ = await aside.run(pid_and, "")
        os.kill(pid, 0)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_ended_while_it_was_idle_costs_no_job(aside: SideProcess) -> None:
    gone, _ = await aside.run(pid_and, "a")
    process = aside._process
    assert process is not None
    os.kill(process.popen.pid, signal.SIGKILL)
    await until(lambda: process.ended, "its end is seen")

    again, said = await aside.run(pid_and, "a")

    assert (said, again != gone) == ("A", True)


async def test_what_the_work_prints_is_not_taken_for_an_answer(aside: SideProcess) -> None:
    assert await aside.run(prints) == "an answer"


def test_its_process_is_not_made_by_a_fork_of_the_service() -> None:
    """Threads of gRPC hold locks at any moment: a child with a copy of them crashes before its program."""
    forked: list[str] = []
    os.register_at_fork(before=lambda: forked.append("here"))

    async def one_job() -> None:
        async with SideProcess(Metrics("gateway"), name="check") as aside:
            await aside.run(pid_and, "a")

    uvloop.run(one_job())

    assert forked == []


@pytest.mark.parametrize(
    "work", [raises_what_cannot_be_pickled, raises_what_holds_a_function, gives_a_function]
)
async def test_an_answer_that_cannot_be_passed_on_is_an_error_of_that_call_alone(
    aside: SideProcess, work: Callable[[], Any]
) -> None:
    before, _ = await aside.run(pid_and, "a")

    with pytest.raises((RuntimeError, AttributeError)):
        await aside.run(work, caller="somebody")

    assert await aside.run(pid_and, "b", caller="somebody") == (before, "B")


def test_whoever_asked_and_was_killed_asks_for_no_more() -> None:
    class Reset(io.BytesIO):
        def read(self, _: int | None = -1) -> bytes:
            raise ConnectionResetError

    serve(Reset(), answers := io.BytesIO(), cpu_seconds=1.0)
    assert answers.getvalue() == b""
