"""The paper's own design beside ours, on the same network, with the same rules and keys.

For each record one `ipfs add` at both members and one Fabric transaction, which both endorse with the same
chaincode (`process`, a batch of one: the author's signature, the policy, the audit entry), from concurrent
clients that each wait for the commit before the next record. Signing and sealing happen before the clock
starts, in its favour.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from bench import idle_network, sealed
from bench.fabric_direct import Endorsing
from bench.headline import Plan
from bench.ipfs import Nodes, of_network
from bench.layers import closed_loop
from bench.load.session import Session
from bench.load.tally import Tally
from bench.readme_table import Line

CLIENTS = 150
_HIGHEST_RATE = 1_000
# What the design has no use for stands still: all of the machine is its own.
_OURS = ("ledger", "notify", "storage", "identity", "gateway")


async def measure(session: Session, plan: Plan, folder: Path, clients: int = CLIENTS) -> dict[str, Any]:
    """Records/s and the clients' waiting times."""
    keys = await sealed.writer_keys(session)
    load = plan.load(_HIGHEST_RATE, plan.layer_seconds)
    records = await asyncio.to_thread(sealed.seal, session, keys, load)
    seals = sealed.Seals(session.stage.endpoints)
    tally = Tally(load)
    async with (
        Endorsing(session.stage.endpoints, "mercy") as channel,
        Nodes(of_network(session.stage.endpoints)) as nodes,
    ):

        async def one(index: int) -> int:
            record = records[index]
            await nodes.add(record.cid, record.block)
            committed = await channel.process(seals.batch([record]))
            [tally.stands[record.item.number]] = channel.stands([record], committed)
            tally.kept[record.item.number] = record.kept
            return 1

        async with idle_network.paused(session.home, _OURS):
            measured = await closed_loop(session, one, len(records), clients, plan.layer_seconds)
    # Every transaction and every blob, at both members; no storage service holds the keys of these contents.
    checked = await session.check(tally, sample=0)
    return {**measured, "clients": clients, "problems": dict(checked.failures)}


def lines(run: dict[str, Any], ours: float | None) -> list[Line]:
    """Records/s, and how many times that the mesh does."""
    note = f"{run['clients']} clients, p95 {run['latency_ms']['p95']:,.0f} ms"
    found = [
        Line(
            "the paper's design: a record, an add, a transaction", run["records_per_second"], "/s", note=note
        )
    ]
    if ours and run["records_per_second"]:
        found.append(Line("the mesh beside the paper's design", ours / run["records_per_second"], "times"))
    return found
