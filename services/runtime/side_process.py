"""A process beside the service, for work that holds the interpreter's lock: there it stands in nobody's way.

Parsing and validating JSON, in Rust as it is, holds the lock for as long as it takes: a thread gives the
event loop no turn meanwhile (measured: of 1.2 MiB in a thread the loop stands still for 60 ms at a time).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
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

_LENGTH = struct.Struct("!Q")
_END_SECONDS = 2.0


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
    async def start(cls) -> _Process:
        """A new one.

        Not by the event loop: uvloop forks, and over what gRPC's threads held at that moment the child
        crashes before it is another program (6 starts of 17). `Popen` has the kernel's vfork, which copies
        nothing.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "services.runtime.side_process"]
            popen = await asyncio.to_thread(
                lambda: subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        return cls(popen, reader, writer)

    @property
    def ended(self) -> bool:
        return self.reader.at_eof() or self.writer.is_closing()

    async def end(self) -> None:
        self.popen.kill()
        self.writer.close()
        # On a machine that has no time a killed process takes a while to be gone. Nobody waits for that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.popen.wait, _END_SECONDS)


class SideProcess:
    """`async with SideProcess(metrics, name="check")`. The process is started when it is first needed.

    max_waiting       jobs; callers take turns
    max_bytes         of one
    deadline_seconds  for one job: then its process is ended, and another started for the next
    """

    def __init__(
        self,
        metrics: telemetry.Metrics,
        *,
        name: str,
        max_waiting: int = 1_000,
        max_bytes: int = 64 << 20,
        deadline_seconds: float = 20.0,
    ) -> None:
        self._deadline_seconds = deadline_seconds
        self._process: _Process | None = None
        self._jobs: MicroBatcher[_Job, Any] = MicroBatcher(
            self._one,
            max_count=1,
            max_bytes=max_bytes,
            linger_seconds=0.0,
            max_queue=max_waiting,
            size_of=lambda job: job.size,
            key_of=lambda job: (job.caller, ""),
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

        ends_at  loop time from which on it is not worth it

        Raises MeshError, with nothing done: RESOURCE_EXHAUSTED (too much waits), UNAVAILABLE (the process
        ended), DEADLINE_EXCEEDED.
        """
        return await self._jobs.enqueue(_Job(work, arguments, caller, size), ends_at=ends_at)

    async def _one(self, jobs: list[_Job]) -> list[Any]:
        (job,) = jobs
        try:
            async with asyncio.timeout(self._deadline_seconds):
                done, result = await self._ask(job)
        except TimeoutError:
            await self._end()
            raise _not_done(code_pb2.CODE_DEADLINE_EXCEEDED, "checking it took too long; send less") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._end()
            raise _not_done(code_pb2.CODE_UNAVAILABLE, "checking it broke off; send again") from error
        return [result if done or isinstance(result, Exception) else RuntimeError(result)]

    async def _ask(self, job: _Job) -> tuple[bool, Any]:
        if self._process is not None and self._process.ended:
            await self._end()
        process = self._process = self._process or await _Process.start()
        asked = pickle.dumps((job.work, job.arguments), protocol=5)
        try:
            process.writer.write(_LENGTH.pack(len(asked)))
            process.writer.write(asked)
        except RuntimeError as error:  # what uvloop raises of a connection that was closed meanwhile
            raise OSError("the process ended") from error
        await process.writer.drain()
        (size,) = _LENGTH.unpack(await process.reader.readexactly(_LENGTH.size))
        return pickle.loads(await process.reader.readexactly(size))  # noqa: S301 - our own process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()


def _not_done(code: int, reason: str) -> MeshError:
    return MeshError(code, reason, outcome=code_pb2.OUTCOME_NOT_DONE)


def serve(asks: BinaryIO, answers: BinaryIO) -> None:
    """Do what is asked until there is no more."""
    while len(head := asks.read(_LENGTH.size)) == _LENGTH.size:
        asked = asks.read(*_LENGTH.unpack(head))
        try:
            work, arguments = pickle.loads(asked)  # noqa: S301 - from our own parent
            answer = pickle.dumps((True, work(*arguments)))
        except Exception as error:  # noqa: BLE001 - the parent raises it
            answer = pickle.dumps((False, error))
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    # The service ends it, by closing its end; a signal to the group is for the service.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what anybody prints is no answer
        serve(sys.stdin.buffer, answers)
