"""Work that is to go on while something is away: a record, a reading, a broken glass, others' records."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared, Written
from cbmdhi.errors import MeshError, NotSent, UnknownOutcome
from cbmdhi.waiting import until
from ops.demo import cast, data
from ops.devnet import Network
from tests.support.mesh import People, observation

T = TypeVar("T")

# What goes over by itself; and the same may be sent again whatever the code, when the SDK says so.
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNKNOWN_OUTCOME")
# Some seconds on a machine of its own; this one may be shared with everything else.
_PATIENCE_SECONDS = 90
_LOAD_SECONDS = 0.3


@dataclass
class Stopwatch:
    """Seconds until something went on, by what was away."""

    found: list[tuple[str, str, float]] = field(default_factory=list)

    def note(self, away: str, what: str, began: float) -> None:
        self.found.append((away, what, time.monotonic() - began))

    def lines(self) -> list[str]:
        """A table: what was away, and when each went on, counted from its end."""
        rows = {away: {w: s for a, w, s in self.found if a == away} for away, _, _ in self.found}
        return [
            f"{away:<44} " + "  ".join(f"{what} {seconds:5.1f} s" for what, seconds in row.items())
            for away, row in rows.items()
        ]


@dataclass(frozen=True)
class Team:
    """Those who work at members that are there: who writes, whose record it is, who breaks the glass."""

    writer: Client
    patient: Client
    clinician: Client

    @classmethod
    @asynccontextmanager
    async def at(cls, member: str, people: People, patient: Client) -> AsyncIterator[Team]:
        """At mercy or lakeside; the patient asks there too, wherever they were registered."""
        async with Client(patient.wallet, member) as there:
            if member == "mercy":
                yield cls(people.engine, there, people.mercy_clinician)
            else:
                yield cls(people.lakeside_clinician, there, people.lakeside_clinician)


async def before_long(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """What the attempt gives once it works. What passes by itself is tried again, anything else is raised."""

    async def once() -> T | None:
        try:
            return await attempt()
        except (NotSent, UnknownOutcome):
            return None
        except MeshError as error:
            if error.code_name not in _PASSING:
                raise
            return None

    return await until(once, what, deadline_seconds=_PATIENCE_SECONDS)


async def written(writer: Client, record: NewRecord) -> NewRecord:
    """The record, committed: always the same signed bytes."""
    prepared: Prepared = writer.records.prepare(record)

    async def attempt() -> Written:
        [result] = [entry async for entry in writer.records.send([prepared])]
        if result.error is not None:
            raise result.error
        return result

    return (await before_long("a record is committed", attempt)).record


async def read(reader: Client, record: NewRecord) -> None:
    """The reader, its patient, sees what was written."""

    async def attempt() -> bytes:
        return (await reader.records.read(record.patient, record.record_id, 1, "PATRQT")).content

    assert await before_long("the patient reads it", attempt) == record.content


async def glass_broken(clinician: Client, record: NewRecord) -> None:
    """The clinician sees it in an emergency."""

    async def attempt() -> bytes:
        found = await clinician.records.break_glass(record.patient, record.record_id, 1, "unconscious")
        return found.content

    assert await before_long("a clinician breaks the glass", attempt) == record.content


async def goes_on(team: Team, away: str, stopwatch: Stopwatch) -> None:
    """A record is written, its patient reads it, and a clinician in an emergency opens it."""
    began = time.monotonic()
    record = await written(team.writer, observation(team.patient))
    stopwatch.note(away, "write", began)
    await read(team.patient, record)
    stopwatch.note(away, "read", began)
    await glass_broken(team.clinician, record)
    stopwatch.note(away, "break-glass", began)


@asynccontextmanager
async def load(writer: Client, patient: Client) -> AsyncIterator[None]:
    """Somebody else's records, some a second, all the while; each is committed in the end, and once."""
    sent: list[asyncio.Task[NewRecord]] = []

    async def work() -> None:
        while True:
            sent.append(asyncio.create_task(written(writer, observation(patient))))
            await asyncio.sleep(_LOAD_SECONDS)

    working = asyncio.create_task(work())
    try:
        yield
        working.cancel()
        records = await asyncio.gather(*sent)
    finally:
        working.cancel()
        for one in sent:
            one.cancel()
    listed = [record.record_id for record in await patient.records.list()]
    assert {record.record_id for record in records} <= set(listed)
    assert len(listed) == len(set(listed))


@asynccontextmanager
async def away(network: Network, programs: Sequence[str]) -> AsyncIterator[None]:
    """Programs are killed and stay away, all at once, and are started again afterwards."""
    await asyncio.gather(*(asyncio.to_thread(_end, network, program) for program in programs))
    try:
        yield
    finally:
        for program in programs:
            await asyncio.to_thread(network.start, program, wait=False)
        await asyncio.to_thread(network.wait_ready, seconds=120)


@asynccontextmanager
async def hanging(network: Network, program: str) -> AsyncIterator[None]:
    """A program is stopped in its tracks, and goes on afterwards."""
    await asyncio.to_thread(network.supervisor.signal_program, program, "STOP")
    try:
        yield
    finally:
        await asyncio.to_thread(network.supervisor.signal_program, program, "CONT")
        await asyncio.to_thread(network.wait_ready, seconds=120)


def _end(network: Network, program: str) -> None:
    network.kill(program)
    network.stop(program)


async def new_patient(people: People, custodians: Sequence[str]) -> Client:
    """A patient of mercy, active, for whom no member has a writer key yet."""
    client = people.newcomer()
    await client.registration.enrol()
    await client.registration.register(data.evidence(data.history(seed=1)), custodians)
    for administrator in (people.mercy_administrator, people.lakeside_administrator):
        await cast.approve(administrator, client.wallet.address)
    await until(lambda: cast.is_active(client), "the patient is active")
    return client
