"""What a plan needs: sessions of clinicians and what they read or write, as files for JMeter.

The sessions' file holds tokens and the keys that prove them: it goes into a folder of mode 0700 that `run`
removes. A token lives five minutes, so a run is shorter than that.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit

import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import network
from bench.load.payloads import templates
from bench.load.plan import Load
from bench.load.registered import Person
from bench.load.session import Session
from cbmdhi.client import Client
from cbmdhi.client.rest import FhirSession
from cbmdhi.protocol.ids import uuid7

_RECORDS = 500
_BODIES = 2_000
_RATE = 100.0
_SIZE = 1000
_PATIENTS = 20
# What naming the patient adds to a resource.


class Plan(StrEnum):
    """What the users do."""

    READS = "reads"
    WRITES = "writes"


def main(
    plan: Annotated[Plan, typer.Argument(help="What the users will do.")],
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    sessions: Annotated[int, typer.Option(min=1, max=100, help="Clinicians who log in.")] = 20,
    home: network.HomeOption = network.DEFAULT_HOME,
) -> None:
    """Write `sessions.tsv`, `records.tsv` or `bodies.tsv`, and `target`, the host and port of REST."""
    asyncio.run(_write(plan, folder, sessions, home))


async def _write(plan: Plan, folder: Path, sessions: int, home: Path) -> None:
    reads = plan is Plan.READS
    load = Load(
        _RATE, _RECORDS / _RATE, users=sessions, patients=_PATIENTS, size=_SIZE, reads=0.5 if reads else 0.0
    )
    async with Session(home, load) as session, AsyncExitStack() as logins:
        if reads:
            _save(folder / "records.tsv", await _records(session, load))
        else:
            _save(folder / "bodies.tsv", bodies(session.cast.patients))
        people: list[Client] = session.cast.readers if reads else session.cast.authors
        actions = ["read"] if reads else ["write"]
        opened = [await logins.enter_async_context(one.fhir(actions=actions)) for one in people]
        _save(folder / "sessions.tsv", [_row(one) for one in opened])
        rest = urlsplit(people[0].member.gateway.rest)
        _save(folder / "target", [(str(rest.hostname), str(rest.port))])


async def _records(session: Session, load: Load) -> list[tuple[str, str]]:
    """Type and id of records that were written for it."""
    written = await session.run(replace(load, reads=0.0), sample=0)
    made = templates(_SIZE)
    return [
        (_type_of(made[number % len(made)].head), kept.record_id)
        for number, kept in written.tally.kept.items()
        if number in written.tally.stands
    ]


def bodies(patients: Sequence[Person]) -> list[tuple[str, str, str, str]]:
    """Number, patient's name, type and resource: about 1 kB each, as a plain FHIR client sends them."""
    made = templates(_SIZE)
    rows: list[tuple[str, str, str, str]] = []
    for number in range(_BODIES):
        patient = patients[number % len(patients)]
        body = made[number % len(made)].content(uuid7(), patient.address).decode()
        resource = json.loads(body)
        rows.append((str(number), patient.name, resource["resourceType"], body))
    return rows


def _row(session: FhirSession) -> tuple[str, str, str]:
    """Token, the public JWK as JSON (base64), the private key as PKCS#8 DER (base64)."""
    public = json.dumps(session.dpop_key.as_dict(private=False)).encode()
    private = cast(ec.EllipticCurvePrivateKey, session.dpop_key.private_key)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return session.token, base64.b64encode(public).decode(), base64.b64encode(der).decode()


def _type_of(head: bytes) -> str:
    return head.partition(b'"resourceType":"')[2].partition(b'"')[0].decode()


def _save(file: Path, rows: Iterable[Sequence[str]]) -> None:
    """Fields apart by tabs, which no JSON of ours holds: JMeter needs no quotes then."""
    file.write_text("".join("\t".join(row) + "\n" for row in rows))


if __name__ == "__main__":
    typer.run(main)
