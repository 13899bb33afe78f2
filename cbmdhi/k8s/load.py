"""Requests without a pause, each followed to its answer: what has none at the end was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from cbmdhi.wallet import Wallet

# A program that runs once is away for as long as it drains and starts; a caller asks again until then.
PATIENCE_SECONDS = 120.0
_AGAIN_SECONDS = 0.5
_AGAIN = (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED, code_pb2.CODE_UNAUTHENTICATED)
_LONGEST_SECONDS = 900.0
_STOP_SECONDS = PATIENCE_SECONDS + 30


class RequestLost(Exception):
    """A request got no answer, or one that it must not get."""


@dataclass
class Tally:
    """What was answered, and the longest that anybody waited, in seconds."""

    written: set[str] = field(default_factory=set[str])
    reads: int = 0
    looks: int = 0
    longest: float = 0.0


class Load:
    """Callers of a member's gateway, in rounds: an engine writes records, their patient reads one of the round
    before and looks at the inbox.

    Every round opens connections of its own, as new callers do, and logs in. To be entered; it ends with the block.

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
        done, pending = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        for task in pending:
            task.cancel()
        if kind is None:
            if pending:
                raise RequestLost(f"{len(pending)} callers still wait for an answer")
            for task in done:
                task.result()

    def check(self) -> None:
        """Raise RequestLost when a request was lost so far."""
        for task in self._tasks:
            if task.done():
                task.result()

    def forget_longest(self) -> None:
        """From now on the longest wait is counted anew."""
        self.tally.longest = 0.0

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
                await self._timed(self._write(engine, records))
                if known is not None:
                    await self._timed(self._read(patient, known))
                await self._timed(self._look(patient))
                self.tally.looks += 1
        except MeshError as error:
            raise RequestLost(f"a caller has an answer that it must not get: {error}") from error
        return records[0]

    async def _write(self, engine: Client, records: Iterable[NewRecord]) -> None:
        """Send until each has its receipt; what is sent again has no second effect."""
        left = {record.record_id: engine.records.prepare(record) for record in records}
        ends = time.monotonic() + PATIENCE_SECONDS
        while left:
            problem: MeshError | None = None
            try:
                async for written in engine.records.send(list(left.values())):
                    if written.ok:
                        del left[written.record.record_id]
                        self.tally.written.add(written.record.record_id)
                    elif written.error is not None:
                        problem = _worth_another(written.error)
                    else:
                        receipt = written.receipt.receipt
                        raise RequestLost(f"a record was refused: {receipt.reason} {receipt.path}")
            except MeshError as error:
                problem = _worth_another(error)
            if left:
                if time.monotonic() > ends:
                    raise RequestLost(f"{len(left)} records have no receipt: {problem}")
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _read(self, patient: Client, record: NewRecord) -> None:
        reading = await patient.records.read(record.patient, record.record_id, record.version, "PATRQT")
        if reading.content != record.content:
            raise RequestLost("what was read is not what was written")
        self.tally.reads += 1

    async def _look(self, patient: Client) -> None:
        stub = notify_pb2_grpc.InboxServiceStub(patient.connection.authenticated)
        await patient.connection.call(stub.List, notify_pb2.ListRequest(page_size=1))

    async def _timed(self, call: Any) -> Any:
        begun = time.monotonic()
        try:
            return await call
        finally:
            self.tally.longest = max(self.tally.longest, time.monotonic() - begun)

    def _new(self) -> NewRecord:
        record_id = uuid7()
        return NewRecord.of(self._patient.address, {**self._resource, "id": record_id}, record_id)


def _worth_another(error: MeshError) -> MeshError:
    """The error, when the same may be sent again. Raises RequestLost when not."""
    if error.code not in _AGAIN:
        raise RequestLost(f"a record has an answer that it must not get: {error}") from error
    return error
