"""A little of everything that a mesh does, so that every panel has something to show."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from bench.load import report
from bench.load.plan import Load
from bench.load.session import Session


async def put(home: Path, endpoints: Mapping[str, Any], load: Load, sample: int = 5) -> dict[str, Any]:
    """Write and read through the gateways, and ask each over REST; the hammer's report.

    Raises MeshError, aiohttp.ClientError.
    """
    await ask_rest(endpoints)
    async with Session(home, load) as session:
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
