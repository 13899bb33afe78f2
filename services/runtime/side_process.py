"""A process beside the service, for work that holds the interpreter's lock: there it stands in nobody's way.

Parsing and validating JSON, in Rust as it is, holds the lock for as long as it takes: a thread gives the
event loop no turn meanwhile (measured: of 1.2 MiB in a thread the loop stands still for 60 ms at a time).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, BinaryIO

from cbmdhi.command.v1 import code_pb2
from services.runtime import telemetry
from services.runtime.batching import MicroBatcher
from services.runtime.errors import MeshError
from services.runtime.ttl_cache import TtlCache

_LENGTH = struct.Struct("!Q")
_END_SECONDS = 2.0
_OUT_OF_MEMORY = 77
# How it ends of a job that asks for too much: told by itself, or by Rust and C, whose allocations abort, and
# whose stack overflows.
_TOO_MUCH: dict[int | None, str] = {
    _OUT_OF_MEMORY: "memory",
    -signal.SIGABRT: "memory",
    -signal.SIGSEGV: "memory",
    -signal.SIGBUS: "memory",
    -signal.SIGPROF: "time",
}
_RESTING = 10_000
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class _Job:
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    caller: Hashable
    size: int


@dataclass(frozen=True)
class _Process:
    popen: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, most_bytes: int, cpu_seconds: float) -> _Process:
        """A new one, within these limits.

        Not by the event loop: uvloop forks, and over what gRPC's threads held at that moment the child
        crashes before it is another program (6 starts of 17). `Popen` has the kernel's vfork, which copies
        nothing.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            limits = str(most_bytes), str(cpu_seconds)
            argv = [sys.executable, "-m", "services.runtime.side_process", *limits]
            popen = await asyncio.to_thread(
                lambda: subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return cls(popen, reader, writer)

    @property
    def ended(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()

    async def end(self) -> int | None:
        """End it. How it ended, which may have been by itself; None when that is not known yet."""
        self.popen.kill()
        self.writer.close()
        # On a machine that has no time a killed process takes a while to be gone. Nobody waits for that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.popen.wait, _END_SECONDS)
        return self.popen.returncode


class SideProcess:
    """`async with SideProcess(metrics, name="check")`. The process is started when it is first needed.

    max_waiting       pieces of 64 KiB; callers take turns by them
    max_bytes         of one
    cpu_seconds       of the processor for one job
    memory_bytes      of address space for the process, libraries and all
    deadline_seconds  for one job, also where the processor has no time for it

    A job that takes more than one of these ends its process, and another is started for the next. Its
    caller's other jobs are refused for as long as it took: half of the time at least is everybody else's.
    """

    def __init__(
        self,
        metrics: telemetry.Metrics,
        *,
        name: str,
        max_waiting: int = 10_000,
        max_bytes: int = 64 << 20,
        cpu_seconds: float = 10.0,
        memory_bytes: int = 1 << 30,
        deadline_seconds: float = 20.0,
    ) -> None:
        self._cpu_seconds = cpu_seconds
        self._memory_bytes = memory_bytes
        self._deadline_seconds = deadline_seconds
        self._rests_until: TtlCache[Hashable, float] = TtlCache(_RESTING)
        self._process: _Process | None = None
        self._jobs: MicroBatcher[_Job, Any] = MicroBatcher(
            self._one,
            max_count=1,
            max_bytes=max_bytes,
            linger_seconds=0.0,
            max_queue=max_waiting,
            size_of=lambda job: job.size,
            key_of=lambda job: (job.caller, ""),
            weight_of=lambda job: 1 + job.size // _PIECE_BYTES,
            max_in_flight=1,
            metrics=metrics,
            name=name,
        )

    async def __aenter__(self) -> SideProcess:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._jobs.close()
        await self._end()

    async def run(
        self,
        work: Callable[..., Any],
        *arguments: Any,
        caller: Hashable = "",
        size: int = 0,
        ends_at: float | None = None,
    ) -> Any:
        """What `work` gives or raises there: a function of a module, whose arguments can be pickled.

        ends_at  loop time at which the caller gives up

        Raises MeshError, with nothing done: TOO_LARGE (it takes too much time or memory, which is the
        caller's doing), RESOURCE_EXHAUSTED (too much waits, or the caller's last one took too much),
        UNAVAILABLE (the process ended), DEADLINE_EXCEEDED.
        """
        waiting = self._jobs.enqueue(_Job(work, arguments, caller, size), ends_at=ends_at)
        timeout = asyncio.timeout_at(None if ends_at == math.inf else ends_at)
        try:
            async with timeout:
                return await waiting
        except TimeoutError:
            if not timeout.expired():
                raise
            reason = "the deadline passed before it was checked, so nothing was done; send the same again"
            raise _not_done(code_pb2.CODE_DEADLINE_EXCEEDED, reason) from None

    async def _one(self, jobs: list[_Job]) -> list[Any]:
        (job,) = jobs
        loop = asyncio.get_running_loop()
        started = loop.time()
        if (left := (self._rests_until.get(job.caller) or 0.0) - started) > 0:
            raise _not_done(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                "something large of this caller's took too much time or memory: send again after the delay",
                int(left * 1000) + 1,
            )
        try:
            async with asyncio.timeout(self._deadline_seconds):
                done, result = await self._ask(job)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            ended_as = await self._end()
            if job.caller:
                now = loop.time()
                self._rests_until.put(job.caller, now + (now - started))
            raise _why_not_done(error, ended_as) from error
        return [result if done or isinstance(result, Exception) else RuntimeError(result)]

    async def _ask(self, job: _Job) -> tuple[bool, Any]:
        if self._process is not None and self._process.ended:
            await self._end()
        process = self._process = self._process or await self._start()
        asked = pickle.dumps((job.work, job.arguments), protocol=5)
        try:
            process.writer.write(_LENGTH.pack(len(asked)))
            process.writer.write(asked)
        except RuntimeError as error:  # what uvloop raises of a connection that was closed meanwhile
            raise OSError("the process ended") from error
        await process.writer.drain()
        (size,) = _LENGTH.unpack(await process.reader.readexactly(_LENGTH.size))
        return pickle.loads(await process.reader.readexactly(size))  # noqa: S301 - our own process

    async def _start(self) -> _Process:
        return await _Process.start(self._memory_bytes, self._cpu_seconds)

    async def _end(self) -> int | None:
        process, self._process = self._process, None
        return None if process is None else await process.end()


def _why_not_done(error: Exception, ended_as: int | None) -> MeshError:
    too_much = "time" if isinstance(error, TimeoutError) else _TOO_MUCH.get(ended_as)
    if too_much is None:
        return _not_done(code_pb2.CODE_UNAVAILABLE, "checking it broke off; send again")
    return _not_done(code_pb2.CODE_TOO_LARGE, f"checking it takes too much {too_much}: send less at once")


def _not_done(code: int, reason: str, retry_after_ms: int = 0) -> MeshError:
    return MeshError(code, reason, "", retry_after_ms, code_pb2.OUTCOME_NOT_DONE)


def serve(asks: BinaryIO, answers: BinaryIO, cpu_seconds: float) -> None:
    """Do what is asked until there is no more."""
    while (length := _next_length(asks)) is not None:
        try:
            asked = asks.read(length)
            # Nobody handles its signal: it ends the process.
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            answer = _answer(asked)
            signal.setitimer(signal.ITIMER_PROF, 0)
            answers.write(_LENGTH.pack(len(answer)))
            answers.write(answer)
            answers.flush()
        except BaseException:  # noqa: BLE001 - a panic of Rust, which found no memory, is no Exception
            # What is left of its memory is in pieces.
            os._exit(_OUT_OF_MEMORY)


def _next_length(asks: BinaryIO) -> int | None:
    try:
        head = asks.read(_LENGTH.size)
    except ConnectionError:
        # Whoever asked was killed.
        return None
    return int(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


def _answer(asked: bytes) -> bytes:
    try:
        work, arguments = pickle.loads(asked)  # noqa: S301 - from our own parent
        return pickle.dumps((True, work(*arguments)))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - the parent raises it
        return _failure(error)


def _failure(error: Exception) -> bytes:
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)  # noqa: S301 - it shall not fail in the parent either
    except Exception:  # noqa: BLE001 - whatever its class does
        return pickle.dumps((False, type(error).__qualname__))
    return answer


def _limit(most_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    # A picture of what was in memory would be plaintext on a disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # To draw one, a panic for want of memory needs memory, and waits for it for ever.
    os.environ["RUST_BACKTRACE"] = "0"


if __name__ == "__main__":
    # The service ends it, by closing its end; a signal to the group is for the service.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _limit(int(sys.argv[1]))
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what anybody prints is no answer
        serve(sys.stdin.buffer, answers, float(sys.argv[2]))
