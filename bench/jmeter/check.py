"""After a run of writes: does every receipt stand, in both peers' blocks, in both Kubo nodes, and as read?"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.load.chain import Peer
from bench.load.check import Checked, blobs
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.protocol import consortium, json_text, proof
from ops.demo.cast import Stage
from ops.devnet import first_administrator

_SAMPLE = 1_000
_AT_ONCE = 12

Rows = Sequence[Mapping[str, str]]
"""Requests that were answered 201: `record`, `tx`, `command`, `block` of the answer, `number` of the body."""


async def check(home: Path, rows: Rows, bodies: Sequence[str]) -> dict[str, Any]:
    """How many transactions, verdicts, blobs and contents were found right, and what was not, by kind.

    bodies  the lines that `sessions` wrote
    """
    stage = Stage.of(home, first_administrator.endpoints(home))
    trust = proof.Trust.of(consortium.load(stage.consortium_file))
    checked = Checked()
    for member in stage.endpoints["organisations"].values():
        if "peer" in member:
            await _member(checked, stage, member, rows, trust)
    sent = [line.split("\t") for line in bodies]
    turns = asyncio.Semaphore(_AT_ONCE)
    by_patient: dict[str, list[tuple[str, str]]] = {}
    chosen = random.Random(0).sample(rows, min(_SAMPLE, len(rows)))  # noqa: S311 - not a secret
    for row in chosen:
        _, name, _, body = sent[int(row["number"])]
        by_patient.setdefault(name, []).append((row["record"], body))
    await asyncio.gather(
        *(_patient(checked, stage, name, records, turns) for name, records in by_patient.items())
    )
    found = asdict(checked)
    problems = dict(found.pop("failures"))
    return {"checked": found, "problems": problems, "stands": bool(rows) and not problems}


async def _member(
    checked: Checked, stage: Stage, member: Mapping[str, Any], rows: Rows, trust: proof.Trust
) -> None:
    wanted: dict[int, set[str]] = {}
    for row in rows:
        wanted.setdefault(int(row["block"]), set()).add(row["tx"])
    async with Peer(member, stage.endpoints["channel"]) as peer:
        found, failures = await peer.verdicts(wanted, trust)
    checked.transactions += len(found)
    checked.failures.update(failures)
    cids: set[str] = set()
    for row in rows:
        verdicts = {command_id: verdict for (command_id, _), verdict in found.get(row["tx"], {}).items()}
        verdict = verdicts.get(row["command"])
        if verdict is None or verdict.code != code_pb2.CODE_OK:
            checked.failures[f"{peer.msp_id}: an answer of 201 without its verdict in the block"] += 1
        else:
            checked.verdicts += 1
            cids.add(verdict.cid)
    await blobs(checked, member, set(), cids)


async def _patient(
    checked: Checked, stage: Stage, name: str, records: Sequence[tuple[str, str]], turns: asyncio.Semaphore
) -> None:
    async with (
        turns,
        Client(await asyncio.to_thread(stage.wallet, name, "mercy", pb.ROLE_PATIENT)) as patient,
    ):
        for record_id, body in records:
            try:
                reading = await patient.records.read(patient.wallet.address, record_id, 1, "PATRQT")
            except MeshError as error:
                checked.failures[f"a record cannot be read: {error}"] += 1
                continue
            if reading.resource == {**json_text.parse_object(body.encode()), "id": record_id}:
                checked.decrypted += 1
            else:
                checked.failures["a record does not read as it was sent"] += 1
