"""The log of released keys, shared by all processes of this storage. A decision releases its key once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from services.runtime.sqlite import Database
from services.storage.domain.decision import ReadGrant


class ReleaseLog:
    """Decisions that released a key.

    kept_seconds  how long one is kept; after that its grant is refused for its age
    """

    def __init__(self, database: Database, now_ms: Callable[[], int], *, kept_seconds: float) -> None:
        self._database = database
        self._now_ms = now_ms
        self._kept_ms = int(kept_seconds * 1000)

    async def claim(self, grants: Sequence[ReadGrant]) -> list[bool]:
        """For each grant, in order, whether this is its first release. On the disk when this returns."""
        rows = [(grant.command_id, grant.reader, grant.decided_at_ms) for grant in grants]
        ended_ms = self._now_ms() - self._kept_ms

        def write(db: sqlite3.Connection) -> list[bool]:
            db.execute("DELETE FROM released WHERE decided_ms < ?", (ended_ms,))
            return [
                db.execute("INSERT OR IGNORE INTO released VALUES (?, ?, ?)", row).rowcount == 1
                for row in rows
            ]

        return await self._database.write(write)
