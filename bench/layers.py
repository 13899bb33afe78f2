"""What each layer costs by itself: the ledger with batches made beforehand, and the two Kubo nodes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from bench import kubo_pair, sealed
from bench.fabric_direct import Endorsing
from bench.headline import Plan
from bench.ipfs import Nodes
from bench.load import report
from bench.load.sampling import Watch
from bench.load.session import Session
from bench.load.tally import Tally
from bench.readme_table import Line
from cbmdhi.protocol import cid
from services.storage.domain import batch

_BATCH, _IN_FLIGHT = 200, 4
_HIGHEST_LEDGER_RATE = 4_000
_BLOCK_BYTES, _CAR_BLOCKS = 1_150, 100


async def ledger(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """Batches of 200 signed commands, 4 at a time, straight to both members' peers."""
    keys = await sealed.writer_keys(session)
    count = round(plan.layer_seconds * _HIGHEST_LEDGER_RATE)
    load = plan.load(_HIGHEST_LEDGER_RATE, plan.layer_seconds)
    records = await asyncio.to_thread(sealed.seal, session, keys, load)
    batches = [records[start : start + _BATCH] for start in range(0, count, _BATCH)]
    seals = sealed.Seals(session.stage.endpoints)
    serialized = [seals.batch(batch) for batch in batches]
    tally = Tally(load)
    async with Endorsing(session.stage.endpoints, "mercy") as channel:

        async def one(index: int) -> int:
            results = await channel.process(serialized[index])
            for record, stands in zip(batches[index], channel.stands(batches[index], results), strict=True):
                # No content was stored for these: what is checked is the channel.
                tally.stands[record.item.number] = stands._replace(cid="", root_cid="")
                tally.kept[record.item.number] = record.kept
            return len(batches[index])

        measured = await closed_loop(session, one, len(batches), _IN_FLIGHT, plan.layer_seconds)
    checked = await session.check(tally, sample=0)
    return {**measured, "batch": _BATCH, "in_flight": _IN_FLIGHT, "problems": dict(checked.failures)}


async def kubo(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """CARs of 100 blocks, and blocks by themselves, imported into both nodes of a pair of its own.

    Into the network's own nodes it would push as many blocks in 15 s as the mesh does in minutes, and their
    compaction would fall into the next measurement.
    """
    results: dict[str, Any] = {"problems": {}}
    async with kubo_pair.running(session.home) as rpcs, Nodes(rpcs) as nodes:
        for what, blocks, at_once in (("cars_of_100", _CAR_BLOCKS, 4), ("single_blocks", 1, 16)):
            made = [_car(blocks) for _ in range(round(plan.layer_seconds * (120 if blocks > 1 else 1_500)))]

            async def one(index: int, made: Sequence[_Car] = made) -> int:
                root, raw, leaves = made[index]
                await nodes.import_car(root, raw)
                return len(leaves)

            measured = await closed_loop(session, one, len(made), at_once, plan.layer_seconds / 2)
            done = made[: measured["calls"]]
            missing = await nodes.missing({root for root, _, _ in done}, {x for _, _, xs in done for x in xs})
            results[what] = measured
            if missing:
                results["problems"][f"{what}: blocks that a node does not hold"] = missing
    return results


async def closed_loop(
    session: Session,
    one: Callable[[int], Awaitable[int]],
    most: int,
    at_once: int,
    seconds: float,
) -> dict[str, Any]:
    """`at_once` workers, each calling `one` with the next number for `seconds`.

    `one` gives how many records it did. Latencies are of calls: the time from a call's beginning to its end.
    """
    numbers = iter(range(most))
    latencies: list[float] = []
    done = 0
    started = time.monotonic()

    async def worker() -> None:
        nonlocal done
        while time.monotonic() - started < seconds and (number := next(numbers, None)) is not None:
            begun = time.monotonic()
            # Not `done += await …`: that would add to what `done` was before the call.
            records = await one(number)
            done += records
            latencies.append(time.monotonic() - begun)

    watch = Watch(session.home, lambda: time.monotonic() - started)
    async with watch.over() as usage:
        await asyncio.gather(*(worker() for _ in range(at_once)))
        took = time.monotonic() - started
    return {
        "records": done,
        "calls": len(latencies),
        "at_once": at_once,
        "seconds": round(took, 2),
        "records_per_second": round(done / took, 1),
        "latency_ms": report.latencies(latencies),
        "cpu": report.cpu(usage, done),
    }


def ledger_lines(run: dict[str, Any]) -> list[Line]:
    """Records/s."""
    note = f"batches of {run['batch']}, {run['in_flight']} in flight, p95 {run['latency_ms']['p95']:,.0f} ms"
    return [Line("the ledger alone, batches sealed beforehand", run["records_per_second"], "/s", note=note)]


def kubo_lines(run: dict[str, Any]) -> list[Line]:
    """Blocks/s."""
    return [
        Line("both Kubo nodes alone, CARs of 100", run["cars_of_100"]["records_per_second"], "/s"),
        Line("both Kubo nodes alone, block by block", run["single_blocks"]["records_per_second"], "/s"),
    ]


_Car = tuple[str, bytes, list[str]]


def _car(blocks: int) -> _Car:
    """Root, bytes and leaves of a CAR of random blocks."""
    made = [(cid.raw(block), block) for block in (secrets.token_bytes(_BLOCK_BYTES) for _ in range(blocks))]
    packed = batch.pack_blob(made[0][1]) if blocks == 1 else batch.pack(made)
    return packed.root_cid, packed.car, [name for name, _ in made]
