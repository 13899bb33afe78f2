"""What the plan needs: records to read, and sessions of clinicians, as CSV for JMeter.

The sessions' file holds tokens and the keys that prove them: it goes into a folder of mode 0700 that `run`
removes. A token lives five minutes, so a run is shorter than that.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit

import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench import network
from cbmdhi.client.rest import FhirSession
from cbmdhi.hammer.payloads import templates
from cbmdhi.hammer.plan import Load
from cbmdhi.hammer.session import Session

_RECORDS = 500
_RATE = 100.0
_SIZE = 1000


def main(
    folder: Annotated[Path, typer.Argument(help="Where the CSV files go.")],
    sessions: Annotated[int, typer.Option(min=1, max=100, help="Clinicians who read.")] = 20,
    home: network.HomeOption = network.DEFAULT_HOME,
) -> None:
    """Write `sessions.csv`, `records.csv` and `target` (host and port of the REST interface)."""
    asyncio.run(_write(folder, sessions, home))


async def _write(folder: Path, sessions: int, home: Path) -> None:
    load = Load(_RATE, _RECORDS / _RATE, users=sessions, patients=20, size=_SIZE, reads=0.5)
    async with Session(home, load) as session, AsyncExitStack() as logins:
        written = await session.run(replace(load, reads=0.0), sample=0)
        made = templates(_SIZE)
        rows = [
            (_type_of(made[number % len(made)].head), kept.record_id)
            for number, kept in written.tally.kept.items()
            if number in written.tally.stands
        ]
        _save(folder / "records.csv", rows)
        opened = [await logins.enter_async_context(reader.fhir()) for reader in session.cast.readers]
        _save(folder / "sessions.csv", [_row(one) for one in opened])
        rest = urlsplit(session.cast.readers[0].member.gateway.rest)
        _save(folder / "target", [(str(rest.hostname), str(rest.port))])


def _row(session: FhirSession) -> tuple[str, str, str]:
    """Token, the public JWK as JSON (base64), the private key as PKCS#8 DER (base64)."""
    public = json.dumps(session.dpop_key.as_dict(private=False)).encode()
    private = cast(ec.EllipticCurvePrivateKey, session.dpop_key.private_key)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return session.token, base64.b64encode(public).decode(), base64.b64encode(der).decode()


def _type_of(head: bytes) -> str:
    return head.partition(b'"resourceType":"')[2].partition(b'"')[0].decode()


def _save(file: Path, rows: list[tuple[str, ...]]) -> None:
    with file.open("w", newline="") as opened:
        csv.writer(opened, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    typer.run(main)
