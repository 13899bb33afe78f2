"""What a member has, asked of its own peer, its own Kubo node and storage's own database: of no service."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import aiohttp

from bench.load.chain import Peer
from cbmdhi.protocol import car, cid, envelope
from cbmdhi.storage.v1 import storage_pb2
from ops.devnet import Network
from ops.devnet.topology import MEMBERS, msp_id
from services.ledger.domain.transactions import Change, facts_of

_SECONDS = 120.0
_AT_ONCE = 4
_MOST_BLOCKS = 5_000
# An empty folder, which Kubo pins when it makes its repository.
_KUBOS_OWN = hashlib.sha256(b"\x0a\x02\x08\x01").digest()

Command = tuple[str, str]
"""Id and signer."""


class Verdict(NamedTuple):
    """What stands about a command in the block of a valid transaction. `cid`: of the record that it wrote."""

    code: int
    tx_id: str
    block: int
    cid: str = ""


@dataclass
class Channel:
    """All that a member's peer found valid, from the first block on.

    verdicts  of each command, in order: more than one is a second effect
    records   how often each version of a record was written
    contents  CIDs that records or registrations name, and the MSP ids of those who swore to hold each
    """

    height: int = 0
    verdicts: dict[Command, list[Verdict]] = field(default_factory=lambda: defaultdict(list))
    records: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))
    contents: dict[str, frozenset[str]] = field(default_factory=dict)


@dataclass
class Held:
    """What a member's storage holds.

    msp      the member's
    leases   commands by root whose fate is open, as storage's database has them
    roots    for good or on a lease, as storage's database has them
    waiting  unpinned blocks that are to be collected
    pinned   blocks by the root that pins them, as Kubo has them, each of them read and its hash checked
    on_disk  SHA-256 of every block in Kubo's repository
    """

    msp: str
    leases: dict[str, tuple[Command, ...]] = field(default_factory=dict)
    roots: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    pinned: dict[str, frozenset[str]] = field(default_factory=dict)
    chunks: set[str] = field(default_factory=set)
    on_disk: set[bytes] = field(default_factory=set)

    @property
    def blocks(self) -> set[str]:
        """Everything that is pinned."""
        return set().union(*self.pinned.values())

    def missing(self, channel: Channel) -> set[str]:
        """What the channel names as held by this member and nothing pins here."""
        blocks = self.blocks
        return {
            name for name, holders in channel.contents.items() if self.msp in holders and name not in blocks
        }

    def orphans(self, channel: Channel) -> set[str]:
        """What is pinned, or on the disk, though nothing on the channel names it and no lease does."""
        names = channel.contents.keys() | self.chunks
        leased = {root for root in self.pinned if root in self.leases}
        pinned = {
            block
            for root, blocks in self.pinned.items()
            if root not in leased
            for block in blocks - {root} or {root}
            if block not in names
        }
        unheld = set(self.pinned) - self.roots
        known = {_KUBOS_OWN, *(cid.digest(name) for name in self.blocks | self.waiting)}
        return pinned | unheld | {digest.hex() for digest in self.on_disk - known}


async def channel_of(network: Network, member: str) -> Channel:
    """What the member's own peer holds, block by block."""
    described = network.endpoints()
    found = Channel()
    async with Peer(described["organisations"][member], described["channel"]) as peer:
        found.height = (await peer.network.chain_info()).height
        async with aclosing(peer.network.blocks(0)) as blocks:
            async for block in blocks:
                for transaction in block.transactions:
                    if transaction.valid and transaction.action is not None:
                        _enter(found, transaction.transaction_id, block.number, transaction.action.writes)
                if block.number + 1 >= found.height:
                    return found
    return found


def _enter(found: Channel, tx_id: str, block: int, writes: Iterable[object]) -> None:
    facts = facts_of(
        Change(write.key, None if write.deleted else write.value)  # type: ignore[attr-defined]
        for write in writes
        if write.namespace == "cbmdhi"  # type: ignore[attr-defined]
    )
    wrote: dict[Command, str] = {}
    for record, _ in facts.records:
        found.records[record.record_id, record.version] += 1
        if record.content.cid:
            found.contents[record.content.cid] = frozenset(record.content.replicas)
            wrote[record.command_id, record.signed_by] = record.content.cid
    # Who holds evidence is not on the channel; it is kept as records are, and here that is by both.
    for identity, _ in facts.identities:
        if identity.evidence_cid:
            found.contents[identity.evidence_cid] = frozenset(map(msp_id, MEMBERS))
    for entry, _ in facts.entries:
        command = entry.command_id, entry.signer
        found.verdicts[command].append(Verdict(entry.code, tx_id, block, wrote.get(command, "")))


async def held_by(network: Network, member: str) -> Held:
    """What the member's storage and Kubo hold. Leases first: what ends meanwhile is unpinned after it."""
    held = Held(msp_id(member))
    database = _database(network, member)
    await asyncio.to_thread(_read_database, held, database)
    rpc = network.endpoints()["organisations"][member]["ipfs"]["rpc"]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as http:
        turns = asyncio.Semaphore(_AT_ONCE)

        async def export(root: str) -> None:
            async with (
                turns,
                http.post(
                    f"{rpc}/api/v0/dag/export", params={"arg": root, "offline": "true", "progress": "false"}
                ) as answer,
            ):
                assert answer.status == 200, f"{member}: {root} is pinned and cannot be read"
                raw = await answer.read()
            _, blocks = car.read(raw, _MOST_BLOCKS)
            held.pinned[root] = frozenset(cid.from_bytes(name) for name, _ in blocks)
            for _, block in blocks:
                # A root is no envelope, and neither is sealed evidence.
                with contextlib.suppress(envelope.CannotOpen):
                    held.chunks.update(envelope.chunk_cids(block))

        async with http.post(f"{rpc}/api/v0/refs/local") as answer:
            async for line in answer.content:
                held.on_disk.add(cid.digest(json.loads(line)["Ref"]))
        async with http.post(f"{rpc}/api/v0/pin/ls", params={"type": "recursive"}) as answer:
            # CIDs of version 0 are no business of storage's.
            pins = [name for name in (await answer.json())["Keys"] if not name.startswith("Qm")]
        await asyncio.gather(*(export(root) for root in pins))
    await asyncio.to_thread(_read_waiting, held, database)
    return held


async def pinned(network: Network, member: str, name: str) -> bool:
    """Whether the member's Kubo node pins a block, by itself or below a root."""
    rpc = network.endpoints()["organisations"][member]["ipfs"]["rpc"]
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as http,
        http.post(f"{rpc}/api/v0/pin/ls", params={"arg": name, "type": "all"}) as answer,
    ):
        return answer.status == 200


async def leased(network: Network, member: str) -> set[str]:
    """The contents whose fate is open at the member's storage."""

    def read() -> set[str]:
        with contextlib.closing(
            sqlite3.connect(f"file:{_database(network, member)}?mode=ro", uri=True)
        ) as db:
            leases = [storage_pb2.Lease.FromString(raw) for (raw,) in db.execute("SELECT lease FROM lease")]
        return {one.cid for lease in leases for one in lease.contents}

    return await asyncio.to_thread(read)


def _database(network: Network, member: str) -> str:
    return str(network.files.organisation(member).service("storage") / "data" / "storage.db")


def _read_database(held: Held, file: str) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        for root, raw in db.execute("SELECT root, lease FROM lease"):
            lease = storage_pb2.Lease.FromString(raw)
            held.leases[root] = (
                *held.leases.get(root, ()),
                *((one.command_id, one.signer) for one in lease.contents),
            )
        held.roots.update(root for (root,) in db.execute("SELECT root FROM held_root"))
    _read_waiting(held, file)


def _read_waiting(held: Held, file: str) -> None:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        held.waiting.update(name for (name,) in db.execute("SELECT cid FROM waiting_block"))
