"""The mesh that is drilled: whether it works, and bringing it back when it does not."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared, Written
from cbmdhi.errors import MeshError
from cbmdhi.waiting import until
from ops.devnet import Network, status
from tests.drills.users import People

T = TypeVar("T")

# What passes by itself while programs come back.
_PASSING = frozenset(
    (
        *("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"),
        *("UNKNOWN_OUTCOME", "ENDORSEMENT_FAILED", "NOT_FOUND"),
    )
)


class Mesh:
    """A running network and people who use it."""

    def __init__(self, network: Network, people: People) -> None:
        self.network = network
        self._people = people

    async def works(self, deadline_seconds: float) -> str:
        """Wait until every program is well, a record is written, and its patient reads it through both
        members and is told of it; a sentence that says so. Raises MeshError, DevnetError."""
        try:
            await until(self._green, "`cbmdhi status` is green", deadline_seconds=deadline_seconds)
        except MeshError as error:
            raise MeshError(error.code, f"{error.reason}: {await self.problems()}") from error
        record = self._people.record()
        prepared = self._people.engine.records.prepare(record)
        written = await until(
            lambda: _written(self._people.engine, prepared), "a record is written", deadline_seconds=30
        )
        for reader in (self._people.patient, self._people.elsewhere):
            await until(
                lambda reader=reader: _read(reader, written.record), "it is read", deadline_seconds=30
            )
        await until(lambda: self._told(record), "its patient is told of it", deadline_seconds=30)
        return "status is green; a record was written, read at both members, and its patient told"

    async def problems(self) -> str:
        """What `cbmdhi status` says is wrong; empty when nothing is."""
        found = await asyncio.to_thread(status.of, self.network)
        return "; ".join(found.problems)

    async def _green(self) -> bool:
        return (await asyncio.to_thread(status.of, self.network)).green

    async def _told(self, record: NewRecord) -> bool:
        try:
            found = await self._people.patient.inbox.list()
        except MeshError as error:
            _raise_unless_passing(error)
            return False
        return any(entry.record_id == record.record_id for entry in found)


async def _written(engine: Client, prepared: Prepared) -> Written | None:
    """The same bytes each time: whatever became of an earlier try, nothing doubles."""
    try:
        [result] = [entry async for entry in engine.records.send([prepared])]
    except MeshError as error:
        _raise_unless_passing(error)
        return None
    return result if result.ok else None


async def _read(reader: Client, record: NewRecord) -> bool:
    try:
        reading = await reader.records.read(record.patient, record.record_id, record.version, "PATRQT")
    except MeshError as error:
        _raise_unless_passing(error)
        return False
    return reading.content == record.content


def _raise_unless_passing(error: MeshError) -> None:
    if error.code_name not in _PASSING:
        raise error
