"""After the run: does every receipt stand? A number whose run does not verify is no number."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from bench.load.blobs import Node
from bench.load.chain import Peer, Verdicts
from bench.load.registered import Person
from bench.load.tally import Kept, Tally
from cbmdhi.client import Client
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.protocol import consortium, proof
from ops.demo.cast import Stage

_PATIENTS_AT_ONCE = 12
_READS_OF_ONE = 12


@dataclass
class Checked:
    """What was looked at, and what was wrong.

    transactions  found valid, endorsed and ordered, once for each member's peer
    verdicts      of commands found in those, once for each member's peer
    blobs         held with the right bytes, once for each member's Kubo node
    decrypted     records read by their patients, whose content is what was sent
    """

    transactions: int = 0
    verdicts: int = 0
    blobs: int = 0
    decrypted: int = 0
    failures: Counter[str] = field(default_factory=Counter)


async def check(
    stage: Stage,
    patients: Sequence[Person],
    tally: Tally,
    sample: int,
    tick: Callable[[str], None] = lambda _: None,
) -> Checked:
    """Every receipt at every member; of a sample of records, the content as their patients read it."""
    checked = Checked()
    members = [entry for entry in stage.endpoints["organisations"].values() if "peer" in entry]
    tick("blocks of both peers")
    await asyncio.gather(*(_blocks(checked, stage, member, tally) for member in members))
    tick("blobs in both Kubo nodes")
    stored = [receipt for receipt in tally.stands.values() if receipt.cid]
    roots, wanted = {receipt.root_cid for receipt in stored} - {""}, {receipt.cid for receipt in stored}
    await asyncio.gather(*(blobs(checked, member, roots, wanted) for member in members))
    chosen = choose(tally, sample)
    left = sum(len(records) for records in chosen.values())

    def told() -> None:
        # Each is a decision on the channel: on a busy machine it takes a while.
        nonlocal left
        tick(f"decrypting, {left:,} to go")
        left -= 1

    told()
    names = {person.address: person.name for person in patients}
    turns = asyncio.Semaphore(_PATIENTS_AT_ONCE)
    await asyncio.gather(
        *(
            _patient(checked, stage, names[address], records, turns, told)
            for address, records in chosen.items()
        )
    )
    return checked


def choose(tally: Tally, sample: int) -> dict[str, list[Kept]]:
    """Stored records by patient, `sample` in all if there are as many: a dozen each of patients at random."""
    by_patient: dict[str, list[Kept]] = {}
    for number, receipt in tally.stands.items():
        if receipt.cid and (kept := tally.kept.get(number)) is not None:
            by_patient.setdefault(kept.patient, []).append(kept)
    chance = random.Random(0)  # noqa: S311 - not a secret
    addresses = chance.sample(sorted(by_patient), len(by_patient))
    chosen: dict[str, list[Kept]] = {address: [] for address in addresses}
    left = sample
    while left and any(by_patient.values()):
        for address in addresses:
            records = by_patient[address]
            taken = chance.sample(records, min(_READS_OF_ONE, len(records), left))
            chosen[address] += taken
            by_patient[address] = [entry for entry in records if entry not in taken]
            left -= len(taken)
    return {address: records for address, records in chosen.items() if records}


async def _blocks(checked: Checked, stage: Stage, member: Mapping[str, Any], tally: Tally) -> None:
    wanted: dict[int, set[str]] = {}
    for receipt in tally.stands.values():
        wanted.setdefault(receipt.block, set()).add(receipt.tx_id)
    trust = proof.Trust.of(consortium.load(stage.consortium_file))
    async with Peer(member, stage.endpoints["channel"]) as peer:
        found, failures = await peer.verdicts(wanted, trust)
    checked.transactions += len(found)
    checked.failures.update(failures)
    compare(checked, peer.msp_id, found, tally)


def compare(checked: Checked, msp_id: str, found: Mapping[str, Verdicts], tally: Tally) -> None:
    """Each receipt against what the member's blocks say about that very command."""
    for number, receipt in tally.stands.items():
        verdict = found.get(receipt.tx_id, {}).get((receipt.command_id, receipt.signer))
        kept = tally.kept.get(number)
        if verdict is None:
            checked.failures[f"{msp_id}: no verdict about a command under its receipt's transaction"] += 1
        elif verdict.code != receipt.code:
            checked.failures[f"{msp_id}: a receipt and its block differ"] += 1
        elif receipt.cid and verdict.cid != receipt.cid:
            checked.failures[f"{msp_id}: a receipt and its block name different contents"] += 1
        elif kept is not None and verdict.command_sha256 != kept.command_sha256:
            checked.failures[f"{msp_id}: the command in the block is not the one that was signed"] += 1
        else:
            checked.verdicts += 1


async def blobs(checked: Checked, member: Mapping[str, Any], roots: set[str], wanted: set[str]) -> None:
    """Whether the member's own Kubo node holds the wanted CIDs; by their batches' roots it is quicker."""
    async with Node(member["msp_id"], member["ipfs"]["rpc"]) as node:
        held, failures = await node.held(roots, wanted)
    checked.blobs += len(held)
    checked.failures.update(failures)
    if len(held) < len(wanted):
        checked.failures[f"{node.name}: a blob is not in its Kubo node"] += len(wanted) - len(held)


async def _patient(
    checked: Checked,
    stage: Stage,
    name: str,
    records: Sequence[Kept],
    turns: asyncio.Semaphore,
    told: Callable[[], None],
) -> None:
    async with turns, AsyncExitStack() as clients:
        wallet = await asyncio.to_thread(stage.wallet, name, "mercy", pb.ROLE_PATIENT)
        patient = await clients.enter_async_context(Client(wallet))
        for reading in asyncio.as_completed([_content(checked, patient, kept) for kept in records]):
            await reading
            told()


async def _content(checked: Checked, patient: Client, kept: Kept) -> None:
    try:
        # Decrypted there, and compared with what its author committed to.
        reading = await patient.records.read(kept.patient, kept.record_id, 1, "PATRQT")
    except MeshError as error:
        checked.failures[f"a record cannot be read: {error}"] += 1
        return
    if sha256(reading.content).digest() != kept.content_sha256:
        checked.failures["a record does not read as it was written"] += 1
    else:
        checked.decrypted += 1
