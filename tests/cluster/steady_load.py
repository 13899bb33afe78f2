"""Requests without a pause, each followed to its answer: what has none at the end was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from cbmdhi.wallet import Wallet

# A program that runs once is away for as long as it drains and starts; a caller asks again until then.
PATIENCE_SECONDS = 120.0
_AGAIN_SECONDS = 0.5
# What says nothing of the request itself. A signed record is sent again as it is: it has no second effect.
_AGAIN = (
    code_pb2.CODE_UNAVAILABLE,
    code_pb2.CODE_RESOURCE_EXHAUSTED,
    code_pb2.CODE_UNAUTHENTICATED,
    code_pb2.CODE_DEADLINE_EXCEEDED,
    code_pb2.CODE_UNKNOWN_OUTCOME,
)
_LONGEST_SECONDS = 900.0
_STOP_SECONDS = PATIENCE_SECONDS + 30


class RequestLost(Exception):
    """A request got no answer, or one that it must not get."""


@dataclass
class Tally:
    """What was answered, how often a caller had to ask again for it, and the longest wait in seconds."""

    written: set[str] = field(default_factory=set[str])
    reads: int = 0
    looks: int = 0
    again: int = 0
    longest: float = 0.0


class Load:
    """Callers of a member's gateway, in rounds: an engine writes, the patient reads a record of the round
    before and looks at the inbox.

    Every round opens connections of its own, as new callers do, and logs in. To be entered.

    callers         at the same time
    records         written in a round
    pause_seconds   of a caller between two rounds
    """

    def __init__(
        self,
        engine: Wallet,
        patient: Wallet,
        resource: dict[str, Any],
        *,
        callers: int,
        records: int,
        pause_seconds: float,
    ) -> None:
        self._engine = engine
        self._patient = patient
        self._resource = resource
        self._callers = callers
        self._records = records
        self._pause_seconds = pause_seconds
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.tally = Tally()

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.create_task(self._call_on()) for _ in range(self._callers)]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping.set()
        # After a failure nobody's answer is waited for.
        seconds = _STOP_SECONDS if kind is None else 0.0
        waiting = (await asyncio.wait(self._tasks, timeout=seconds))[1]
        for task in waiting:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        if kind is None:
            if waiting:
                raise RequestLost(f"{len(waiting)} callers still wait for an answer")
            for end in ends:
                if isinstance(end, BaseException):
                    raise end

    def check(self) -> None:
        """Raise RequestLost when a request was lost so far."""
        for task in self._tasks:
            if task.done():
                task.result()

    def begin_anew(self) -> None:
        """From now on waits, and what was asked again, are counted anew."""
        self.tally.again, self.tally.longest = 0, 0.0

    async def moves_on(self, records: int) -> None:
        """Return once so many more records are written. Raises RequestLost."""
        wanted = len(self.tally.written) + records

        async def enough() -> bool:
            self.check()
            return len(self.tally.written) >= wanted

        await until(enough, f"{records} more records are written", deadline_seconds=PATIENCE_SECONDS)

    async def _call_on(self) -> None:
        ends = time.monotonic() + _LONGEST_SECONDS
        known: NewRecord | None = None
        while not self._stopping.is_set() and time.monotonic() < ends:
            known = await self._round(known)
            await asyncio.sleep(self._pause_seconds)

    async def _round(self, known: NewRecord | None) -> NewRecord:
        """One of the records that it wrote; `known`: that of the round before."""
        records = [self._new() for _ in range(self._records)]
        try:
            async with (
                Client(self._engine, deadline_seconds=PATIENCE_SECONDS) as engine,
                Client(self._patient, deadline_seconds=PATIENCE_SECONDS) as patient,
            ):
                prepared = {record.record_id: engine.records.prepare(record) for record in records}
                await self._answered(lambda: self._write(engine, prepared))
                if known is not None:
                    await self._answered(lambda: self._read(patient, known))
                await self._answered(lambda: self._look(patient))
        except MeshError as error:
            raise RequestLost(f"a caller has an answer that it must not get: {error}") from error
        return records[0]

    async def _answered(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask until there is an answer. Raises RequestLost, or MeshError when it is the wrong one."""
        begun = time.monotonic()
        while True:
            try:
                await ask()
                break
            except MeshError as error:
                if error.code not in _AGAIN:
                    raise
                if time.monotonic() - begun > PATIENCE_SECONDS:
                    raise RequestLost(f"no answer within {PATIENCE_SECONDS:g} s: {error}") from error
            self.tally.again += 1
            await asyncio.sleep(_AGAIN_SECONDS)
        self.tally.longest = max(self.tally.longest, time.monotonic() - begun)

    async def _write(self, engine: Client, left: dict[str, Prepared]) -> None:
        """Send what is left. Raises the last MeshError of those that have no receipt yet."""
        problem: MeshError | None = None
        async for written in engine.records.send(list(left.values())):
            if written.ok:
                del left[written.record.record_id]
                self.tally.written.add(written.record.record_id)
            elif written.error is not None:
                problem = written.error
        if problem is not None:
            raise problem

    async def _read(self, patient: Client, record: NewRecord) -> None:
        reading = await patient.records.read(record.patient, record.record_id, record.version, "PATRQT")
        if reading.content != record.content:
            raise RequestLost("what was read is not what was written")
        self.tally.reads += 1

    async def _look(self, patient: Client) -> None:
        stub = notify_pb2_grpc.InboxServiceStub(patient.connection.authenticated)
        await patient.connection.personal(stub.List, notify_pb2.ListRequest(page_size=1))
        self.tally.looks += 1

    def _new(self) -> NewRecord:
        return record_of(self._patient.address, self._resource, uuid7())


def record_of(patient: str, resource: dict[str, Any], record_id: str) -> NewRecord:
    """What a caller writes under this id."""
    return NewRecord.of(patient, {**resource, "id": record_id}, record_id)
