"""The tables of what the own Kubo node pins: for whom, and for which roots the outcome is still open."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cbmdhi.command.v1.state_pb2 import SealedBatch
from cbmdhi.storage.v1 import storage_pb2
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database, json_list, write_rows
from services.storage.domain.batch import PlainRecord
from services.storage.domain.lease import Lease, Quota
from services.storage.store import receipts

_FIRST_LOOK_MS = 5_000
_LONGEST_LOOK_MS = 60_000

_OPEN = """
    INSERT INTO lease (root, msp, contents_sha256, lease, held_at_ms, due_at_ms, size)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (root, msp) DO UPDATE SET held_at_ms = max(held_at_ms, excluded.held_at_ms)
"""

_SEALED = """
    SELECT command, place, lease.root, lease.lease FROM sealed JOIN lease ON lease.root = sealed.root
"""


@dataclass(frozen=True, slots=True)
class Reused:
    """The earlier result for the same command, and its seal."""

    result: storage_pb2.SealResult
    seal: SealedBatch


class Leases:
    """Written before anything is pinned. A held root without a lease is pinned for good."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, roots: Sequence[tuple[str, str]]) -> None:
        """Write down that roots (root CID, MSP id) are pinned for good, and end their leases.

        Call it before they are pinned.
        """
        async with self._database.transaction() as connection:
            await connection.executemany("INSERT OR IGNORE INTO held_root VALUES (?, ?)", roots)
            await connection.executemany("DELETE FROM lease WHERE root = ? AND msp = ?", roots)

    async def open(self, lease: Lease, size: int, quota: Quota | None = None) -> None:
        """Write down a lease before its root is pinned. A lease that is there already is prolonged.

        size   bytes of the CAR
        quota  of the lease's member

        Raises MeshError CONFLICT (the root is leased for other commands, whose outcome is open),
        RESOURCE_EXHAUSTED (over the quota).
        """
        message = _message(lease)
        digest = lease.sealed_sha256

        def write(db: sqlite3.Connection) -> None:
            place = lease.root_cid, lease.msp
            there = db.execute(
                "SELECT contents_sha256 FROM lease WHERE root = ? AND msp = ?", place
            ).fetchone()
            if (
                there is None
                and db.execute("SELECT 1 FROM held_root WHERE root = ? AND msp = ?", place).fetchone()
            ):
                # Pinned for good: everything under it is committed, so no lease is needed.
                return
            if there is not None and there[0] != digest:
                raise MeshError.conflict(
                    "the batch is held for other commands, whose fate is open; seal anew"
                )
            if there is None and quota is not None:
                _check_quota(db, lease.msp, size, quota)
            db.execute("INSERT OR IGNORE INTO held_root VALUES (?, ?)", place)
            held_at_ms = lease.held_at_ms
            db.execute(
                _OPEN,
                (*place, digest, message.SerializeToString(), held_at_ms, held_at_ms + _FIRST_LOOK_MS, size),
            )

        await self._database.write(write)

    async def stand(
        self,
        lease: Lease,
        seal: SealedBatch,
        items: Sequence[PlainRecord],
        results: Sequence[storage_pb2.SealResult],
    ) -> None:
        """Write down that the batch is stored with all its copies.

        The same commands get the same results when they are sealed again.
        """
        message = _message(lease)
        message.seal.CopyFrom(seal)
        message.results.extend(results)
        lease_bytes = message.SerializeToString()
        sealed = [(_key(item), lease.root_cid, place) for place, item in enumerate(items)]

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "UPDATE lease SET lease = ? WHERE root = ? AND msp = ?",
                (lease_bytes, lease.root_cid, lease.msp),
            )
            write_rows(db, "INSERT OR REPLACE INTO sealed (command, root, place)", sealed)

        await self._database.write(write)

    async def seal_of(self, lease: Lease) -> SealedBatch | None:
        """The seal of a stored batch with the same contents, while its outcome is open."""
        row = await self._database.row(
            "SELECT * FROM lease WHERE root = ? AND msp = ? AND held_at_ms > 0", (lease.root_cid, lease.msp)
        )
        if row is None or _lease(row).contents != lease.contents:
            return None
        message = storage_pb2.Lease.FromString(row["lease"])
        return message.seal if message.HasField("seal") else None

    async def abandon(self, lease: Lease) -> None:
        """Nobody got a receipt for it: it may be unpinned at once."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE lease SET held_at_ms = 0, due_at_ms = 0 WHERE root = ? AND msp = ?",
                (lease.root_cid, lease.msp),
            )

    async def sealed(self, items: Sequence[PlainRecord], own_msp: str, since_ms: int) -> dict[int, Reused]:
        """Stored results for the same commands, by the place of the item, of leases from `since_ms` on."""
        keys = [_key(item) for item in items]
        marks = ",".join("?" * len(keys))
        rows = await self._database.rows(
            f"{_SEALED} WHERE command IN ({marks}) AND msp = ? AND held_at_ms >= ?",
            (*keys, own_msp, since_ms),
        )
        messages = {row["root"]: storage_pb2.Lease.FromString(row["lease"]) for row in rows}
        found = {
            row["command"]: Reused(messages[row["root"]].results[row["place"]], messages[row["root"]].seal)
            for row in rows
        }
        return {place: found[key] for place, key in enumerate(keys) if key in found}

    async def find(self, root: str, msp: str) -> Lease | None:
        """The lease of a root, while its outcome is open."""
        row = await self._database.row("SELECT * FROM lease WHERE root = ? AND msp = ?", (root, msp))
        return _lease(row) if row else None

    async def due(self, now_ms: int, limit: int) -> list[Lease]:
        """At most `limit` leases whose outcome is to be asked for now."""
        rows = await self._database.rows(
            "SELECT * FROM lease WHERE due_at_ms <= ? ORDER BY due_at_ms LIMIT ?", (now_ms, limit)
        )
        return [_lease(row) for row in rows]

    async def postpone(self, leases: Iterable[Lease], now_ms: int) -> None:
        """Ask again later. The interval grows with the age of the lease."""
        later = [(now_ms + _wait_ms(now_ms - one.held_at_ms), one.root_cid, one.msp) for one in leases]
        async with self._database.transaction() as connection:
            await connection.executemany("UPDATE lease SET due_at_ms = ? WHERE root = ? AND msp = ?", later)

    async def keep(self, leases: Sequence[Lease]) -> None:
        """All their records are committed: hold their roots for good."""
        await self._database.write(partial(_close, leases))

    async def release(self, gone: Mapping[Lease, Iterable[str]], now_ms: int) -> None:
        """Write down that roots are unpinned and that the blocks of each wait for collection."""
        waiting = [(name, now_ms) for blocks in gone.values() for name in blocks]

        def write(db: sqlite3.Connection) -> None:
            for lease in gone:
                db.execute("DELETE FROM held_root WHERE root = ? AND msp = ?", (lease.root_cid, lease.msp))
            _close(list(gone), db)
            write_rows(db, "INSERT OR IGNORE INTO waiting_block (cid, since_ms)", waiting)

        await self._database.write(write)

    async def holds(self, root: str, msp: str) -> bool:
        """True when `root` is pinned here on behalf of `msp`."""
        return await self._number("SELECT 1 FROM held_root WHERE root = ? AND msp = ?", root, msp) > 0

    async def holds_for_others(self, root: str, msp: str) -> bool:
        """True when `root` is pinned here on behalf of another member than `msp`."""
        return await self._number("SELECT 1 FROM held_root WHERE root = ? AND msp <> ?", root, msp) > 0

    async def count(self) -> int:
        """How many leases are open."""
        return await self._number("SELECT count(*) FROM lease")

    async def largest_elsewhere(self, own_msp: str) -> int:
        """Bytes under open leases of the other member that has the most here."""
        return await self._number(
            "SELECT sum(size) FROM lease WHERE msp <> ? GROUP BY msp ORDER BY 1 DESC LIMIT 1", own_msp
        )

    async def oldest_ms(self) -> int | None:
        """When the oldest open lease was written (Unix ms)."""
        row = await self._database.row("SELECT min(held_at_ms) FROM lease WHERE held_at_ms > 0")
        return row[0] if row else None

    async def waiting(self, limit: int) -> list[str]:
        """CIDs of blocks that wait for collection, the oldest first."""
        rows = await self._database.rows("SELECT cid FROM waiting_block ORDER BY since_ms LIMIT ?", (limit,))
        return [row["cid"] for row in rows]

    async def collected(self, cids: Iterable[str]) -> None:
        """Blocks are removed from the disk, or Kubo keeps them under another pin."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM waiting_block WHERE cid IN (SELECT value FROM json_each(?))", (json_list(cids),)
            )

    async def count_waiting(self) -> int:
        """How many blocks wait for collection."""
        return await self._number("SELECT count(*) FROM waiting_block")

    async def _number(self, sql: str, *parameters: str) -> int:
        row = await self._database.row(sql, parameters)
        return int(row[0]) if row else 0


def _check_quota(db: sqlite3.Connection, msp: str, size: int, quota: Quota) -> None:
    batches, taken = db.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM lease WHERE msp = ?", (msp,)
    ).fetchone()
    if batches >= quota.batches or taken + size > quota.size:
        raise MeshError.resource_exhausted(
            "as much of this member is held here as may be while the channel has not decided on it; "
            "have another member hold the batch, or come back",
            retry_after_ms=_FIRST_LOOK_MS,
        )


def _wait_ms(age_ms: int) -> int:
    return min(max(_FIRST_LOOK_MS, age_ms), _LONGEST_LOOK_MS)


def _close(leases: Sequence[Lease], db: sqlite3.Connection) -> None:
    for lease in leases:
        db.execute("DELETE FROM lease WHERE root = ? AND msp = ?", (lease.root_cid, lease.msp))
    roots = json_list(lease.root_cid for lease in leases)
    db.execute("DELETE FROM sealed WHERE root IN (SELECT value FROM json_each(?))", (roots,))


def _key(item: PlainRecord) -> bytes:
    """A hash over command, record and content."""
    parts = item.command_id, item.signer, item.record_id, str(item.version), item.patient
    return hashlib.blake2b("\x00".join(parts).encode() + item.commitment, digest_size=16).digest()


def _message(lease: Lease) -> storage_pb2.Lease:
    return storage_pb2.Lease(
        contents=receipts.named(lease),
        chunked=[
            storage_pb2.ChunkedContent(cid=cid, chunk_cids=names) for cid, names in lease.chunks.items()
        ],
    )


def _lease(row: Mapping[str, object] | sqlite3.Row) -> Lease:
    message = storage_pb2.Lease.FromString(row["lease"])  # type: ignore[arg-type]
    return Lease(
        root_cid=row["root"],  # type: ignore[arg-type]
        msp=row["msp"],  # type: ignore[arg-type]
        contents=receipts.contents_of(message.contents),
        chunks={one.cid: tuple(one.chunk_cids) for one in message.chunked},
        held_at_ms=row["held_at_ms"],  # type: ignore[arg-type]
    )
