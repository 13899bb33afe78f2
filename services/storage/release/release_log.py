"""Each decision releases its key once: what was released already, by any process of this member's storage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from services.runtime.sqlite import Database
from services.storage.domain.decision import ReadGrant


class ReleaseLog:
    """Remembers decisions for as long as they can be used.

    kept_seconds  after its decision a grant is refused for its age
    """

    def __init__(self, database: Database, now_ms: Callable[[], int], *, kept_seconds: float) -> None:
        self._database = database
        self._now_ms = now_ms
        self._kept_ms = int(kept_seconds * 1000)

    async def claim(self, grants: Sequence[ReadGrant]) -> list[bool]:
        """For each, in order, whether it is the first time: durable before it is answered."""
        rows = [(grant.command_id, grant.reader, grant.decided_at_ms) for grant in grants]
        ended_ms = self._now_ms() - self._kept_ms

        def write(db: sqlite3.Connection) -> list[bool]:
            db.execute("DELETE FROM released WHERE decided_ms < ?", (ended_ms,))
            return [
                db.execute("INSERT OR IGNORE INTO released VALUES (?, ?, ?)", row).rowcount == 1
                for row in rows
            ]

        return await self._database.write(write)
