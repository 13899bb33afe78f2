"""Who takes part in a run: authors, carriers, readers and patients, registered once and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from bench.load import register
from bench.load.plan import READ, Load
from bench.load.prepare import Key
from bench.load.registered import Known, Person
from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from ops.demo import cast
from ops.demo.cast import Stage

_AT_ONCE = 4
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Cast:
    """Everybody, active on the channel.

    authors    clinicians of mercy, who sign
    carriers   integration engines of mercy, one for each stream, who hold it open
    readers    clinicians of lakeside, who read under the patients' consent; none when nothing is read
    outsider   a patient, whose records about others are forbidden
    """

    stage: Stage
    authors: list[Client]
    carriers: list[Client]
    readers: list[Client]
    patients: list[Person]
    outsider: Key

    @property
    def keys(self) -> list[Key]:
        """The authors' keys, for processes that sign."""
        return [Key(author.wallet.address, author.wallet.private_key_pem) for author in self.authors]

    @property
    def neighbour(self) -> Client:
        """Another client of mercy's gateway than the carriers, on whom nothing of the load depends."""
        return self.authors[0]


@dataclass(frozen=True)
class _Company:
    stage: Stage
    known: Known
    administrators: dict[str, Client]
    clients: AsyncExitStack


async def gather(stage: Stage, load: Load, clients: AsyncExitStack, tick: Progress) -> Cast:
    """Everybody that the load needs; `tick` is called with how many more are there."""
    known = Known.of(stage.home)
    administrators = {
        member: await clients.enter_async_context(await cast.administrator(stage, member))
        for member in ("mercy", "lakeside")
    }
    company = _Company(stage, known, administrators, clients)
    carriers = await _staff(company, "mercy", "engine", pb.ROLE_ENGINE, load.streams)
    authors = await _staff(company, "mercy", "author", pb.ROLE_CLINICIAN, load.users)
    reads = READ in (load.kind(number) for number in range(min(load.operations, 1_000)))
    readers = await _staff(company, "lakeside", "reader", pb.ROLE_CLINICIAN, load.users if reads else 0)
    tick(len(carriers) + len(authors) + len(readers))
    office = register.Office(
        stage, list(administrators.values()), administrators["mercy"].connection.first_contact
    )
    patients = await register.patients(office, known, max(load.patients, 2), tick)
    outsider = stage.wallet(patients[0].name, "mercy", pb.ROLE_PATIENT)
    return Cast(
        stage,
        authors,
        carriers,
        readers,
        patients[: load.patients] if load.patients > 1 else patients,
        Key(outsider.address, outsider.private_key_pem),
    )


def people_of(load: Load) -> int:
    """How many `tick`s `gather` makes, at most."""
    return load.streams + load.users * (2 if load.reads else 1) + max(load.patients, 2)


async def _staff(company: _Company, member: str, what: str, role: pb.Role, count: int) -> list[Client]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> Client:
        name = f"hammer-{what}-{number}"
        if name in company.known.staff:
            made = Client(company.stage.wallet(name, member, role), member)
        else:
            async with turns:
                by = company.administrators[member]
                also = next(one for other, one in company.administrators.items() if other != member)
                made = await cast.member_of_staff(company.stage, member, name, role, by, also)
            company.known.add_staff(Person(name, made.wallet.address))
        return await company.clients.enter_async_context(made)

    return list(await asyncio.gather(*(one(number) for number in range(count))))
