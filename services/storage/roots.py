"""Which roots the own Kubo node pins for whom, who holds this member's roots, and what is to be let go."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.runtime.sqlite import Database

_RELEASE = (
    "INSERT INTO unpin_due (root, msp, keep, due_at_ms) VALUES (?, ?, ?, ?) ON CONFLICT (root, msp)"
    " DO UPDATE SET keep = excluded.keep, due_at_ms = excluded.due_at_ms, attempts = 0"
)


@dataclass(frozen=True, slots=True)
class Due:
    """A root that a member (possibly this one) shall let go of, but for what is kept of it."""

    root: str
    msp: str
    keep: tuple[str, ...]
    attempts: int


class Roots:
    """The bookkeeping of pins."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, roots: Iterable[str], msp: str) -> None:
        """Remember, before they are pinned, that this node pins roots on behalf of `msp`."""
        async with self._database.transaction() as connection:
            await connection.executemany(
                "INSERT OR IGNORE INTO held_root VALUES (?, ?)", [(root, msp) for root in roots]
            )

    async def forget(self, roots: Sequence[str], msp: str) -> None:
        """They are no longer pinned on behalf of `msp`."""
        async with self._database.transaction() as connection:
            await connection.executemany(
                "DELETE FROM held_root WHERE root = ? AND msp = ?", [(root, msp) for root in roots]
            )
            await connection.executemany(
                "DELETE FROM chunked WHERE root = ? AND root NOT IN (SELECT root FROM held_root)",
                [(root,) for root in roots],
            )

    async def held(self, roots: Iterable[str], msp: str) -> list[str]:
        """Those that are pinned here on behalf of `msp`."""
        rows = await self._database.rows(
            "SELECT root FROM held_root WHERE root IN (SELECT value FROM json_each(?)) AND msp = ?",
            (json.dumps(list(roots)), msp),
        )
        return [row["root"] for row in rows]

    async def held_for_others(self, roots: Iterable[str], msp: str) -> set[str]:
        """Those that are pinned here on behalf of somebody beside `msp`."""
        rows = await self._database.rows(
            "SELECT root FROM held_root WHERE root IN (SELECT value FROM json_each(?)) AND msp <> ?",
            (json.dumps(list(roots)), msp),
        )
        return {row["root"] for row in rows}

    async def holds(self, root: str, msp: str) -> bool:
        """True when `root` is pinned here on behalf of `msp`."""
        row = await self._database.row("SELECT 1 FROM held_root WHERE root = ? AND msp = ?", (root, msp))
        return row is not None

    async def begin(
        self,
        root: str,
        own_msp: str,
        others: Iterable[str],
        undo_at_ms: int,
        chunks: Mapping[str, Sequence[str]],
    ) -> None:
        """A root is about to be pinned here and pushed to others: undone at that time, come what may.

        `complete` or `undo` say earlier how it went; a process that dies in between leaves nothing pinned.
        `chunks` names the chunks of the records below it that lie in several blocks.
        """
        async with self._database.transaction() as connection:
            await connection.execute("INSERT OR IGNORE INTO held_root VALUES (?, ?)", (root, own_msp))
            await connection.executemany(
                "INSERT OR IGNORE INTO chunked VALUES (?, ?, ?)",
                [(root, record, json.dumps(list(names))) for record, names in chunks.items()],
            )
            await connection.executemany(
                _RELEASE, [(root, msp, "[]", undo_at_ms) for msp in (own_msp, *others)]
            )

    async def complete(
        self, root: str, replicas: Iterable[str], doubtful: Iterable[str], now_ms: int
    ) -> None:
        """The root stands: `replicas` hold it; who was asked and gave no receipt lets go of it."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM unpin_due WHERE root = ?", (root,))
            await connection.executemany(
                "INSERT OR IGNORE INTO replica VALUES (?, ?)", [(root, msp) for msp in replicas]
            )
            await connection.executemany(_RELEASE, [(root, msp, "[]", now_ms) for msp in doubtful])

    async def undo(self, root: str, asked: Iterable[str], now_ms: int) -> None:
        """The root does not stand: whoever was asked to hold it, this member included, lets go of it."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM unpin_due WHERE root = ?", (root,))
            await connection.executemany(_RELEASE, [(root, msp, "[]", now_ms) for msp in asked])

    async def release(self, root: str, msps: Iterable[str], keep: Sequence[str], now_ms: int) -> None:
        """Have members let go of a root, but for what is kept of it."""
        kept = json.dumps(list(keep))
        async with self._database.transaction() as connection:
            await connection.executemany(_RELEASE, [(root, msp, kept, now_ms) for msp in msps])

    async def stands(self, root: str, own_msp: str) -> bool:
        """True when a root of this member was stored and nobody was asked to let it go."""
        row = await self._database.row(
            "SELECT 1 FROM held_root WHERE root = ? AND msp = ?"
            " AND NOT EXISTS (SELECT 1 FROM unpin_due WHERE unpin_due.root = held_root.root AND msp = ?)",
            (root, own_msp, own_msp),
        )
        return row is not None

    async def with_chunks(self, root: str, records: Sequence[str]) -> list[str]:
        """The blocks of some records below a root: each record's own CID, and its chunks."""
        rows = await self._database.rows("SELECT record, chunks FROM chunked WHERE root = ?", (root,))
        chunks = {row["record"]: json.loads(row["chunks"]) for row in rows}
        return [block for record in records for block in (record, *chunks.get(record, ()))]

    async def replicas(self, root: str) -> tuple[str, ...]:
        """The other members that hold a root of this one."""
        rows = await self._database.rows("SELECT msp FROM replica WHERE root = ?", (root,))
        return tuple(row["msp"] for row in rows)

    async def due(self, now_ms: int, limit: int) -> list[Due]:
        """What is to be let go now."""
        rows = await self._database.rows(
            "SELECT * FROM unpin_due WHERE due_at_ms <= ? ORDER BY due_at_ms LIMIT ?", (now_ms, limit)
        )
        return [Due(row["root"], row["msp"], tuple(json.loads(row["keep"])), row["attempts"]) for row in rows]

    async def hurry(self, now_ms: int) -> None:
        """Whatever is to be let go some time is to be let go now."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE unpin_due SET due_at_ms = ? WHERE due_at_ms > ?", (now_ms, now_ms)
            )

    async def still_due(self, dues: Sequence[Due], now_ms: int) -> list[Due]:
        """Those that are still to be done: a root that was sealed anew meanwhile is not."""
        rows = await self._database.rows(
            "SELECT root, msp, keep FROM unpin_due WHERE root IN (SELECT value FROM json_each(?))"
            " AND due_at_ms <= ?",
            (json.dumps([due.root for due in dues]), now_ms),
        )
        there = {(row["root"], row["msp"], row["keep"]) for row in rows}
        return [due for due in dues if (due.root, due.msp, json.dumps(list(due.keep))) in there]

    async def released(self, dues: Iterable[Due]) -> None:
        """Members have let go."""
        keys = [(due.root, due.msp) for due in dues]
        async with self._database.transaction() as connection:
            await connection.executemany("DELETE FROM unpin_due WHERE root = ? AND msp = ?", keys)
            await connection.executemany("DELETE FROM replica WHERE root = ? AND msp = ?", keys)

    async def postpone(self, due: Due, due_at_ms: int) -> None:
        """A member did not answer: ask again later."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE unpin_due SET attempts = attempts + 1, due_at_ms = ? WHERE root = ? AND msp = ?",
                (due_at_ms, due.root, due.msp),
            )

    async def count_due(self) -> int:
        """How many roots wait to be let go."""
        row = await self._database.row("SELECT count(*) AS due FROM unpin_due")
        return int(row["due"]) if row else 0
