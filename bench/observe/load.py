"""A little of everything that a mesh does, so that every panel has something to show."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from bench.load import report
from bench.load.plan import Load
from bench.load.session import Session, Show

# A patient's first record costs what no later one does.
_FIRST_RECORDS_A_SECOND = 400.0


async def put(
    home: Path,
    endpoints: Mapping[str, Any],
    load: Load,
    sample: int = 5,
    *,
    first_records: bool = False,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write and read through the gateways, and ask each over REST; the hammer's report.

    first_records  write one about each patient before, as `make bench` does
    begun          called when the load itself begins: everybody is registered, everything is signed

    Raises MeshError, aiohttp.ClientError.
    """
    await ask_rest(endpoints)
    async with Session(home, load) as session:
        if first_records:
            seconds = load.patients / _FIRST_RECORDS_A_SECOND
            await session.run(replace(load, rate=_FIRST_RECORDS_A_SECOND, seconds=seconds, reads=0.0), 0)
        session.show = Show(begun=lambda *_: begun())
        ran = await session.run(load, sample)
    await ask_rest(endpoints)
    return report.report(ran)


async def ask_rest(endpoints: Mapping[str, Any]) -> None:
    """FHIR's capability statement from each gateway."""
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        for organisation in endpoints["organisations"].values():
            if "gateway" in organisation:
                trusted = ssl.create_default_context(cafile=organisation["tls_ca_file"])
                url = f"{organisation['gateway']['rest']}/fhir/metadata"
                async with session.get(url, ssl=trusted) as answer:
                    await answer.read()
