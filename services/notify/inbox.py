"""The inboxes and known identities, in SQLite. All of it can be derived again from the channel."""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

from cbmdhi.command.v1 import command_pb2, state_pb2
from services.notify import notice_writer
from services.notify.notices import Identity, Notice, Notification
from services.notify.rows import notification
from services.runtime.sqlite import Database, json_list, write_rows

_READ_AT_ONCE = 500
_AFTER_ALL = 1 << 62

_IDENTITY_COLUMNS = ", ".join(Identity._fields)
_INSERT_IDENTITY = f"INSERT INTO identities ({_IDENTITY_COLUMNS})"
_IDENTITIES = f"SELECT {_IDENTITY_COLUMNS} FROM identities"  # noqa: S608 - our own
_IF_NEWER = (
    "ON CONFLICT (address) DO UPDATE SET role = excluded.role, home_msp = excluded.home_msp, "
    "status = excluded.status, version = excluded.version "
    "WHERE excluded.version > identities.version"
)

# Ids of an inbox, newest first, down to 0 or `seen_to`. Begins behind `:before` if that is in the inbox.
_CHAIN = """
    WITH RECURSIVE
        inbox AS (SELECT inboxes.* FROM names JOIN inboxes ON owner = name_id WHERE name = :owner),
        place AS (SELECT previous FROM notices JOIN inbox USING (owner) WHERE notification_id = :before),
        chain (id, down_to) AS (
            SELECT coalesce((SELECT previous FROM place), newest), iif(:unseen_only, seen_to, 0) FROM inbox
            UNION ALL
            SELECT previous, down_to FROM chain JOIN notices ON notification_id = id WHERE previous > down_to
        )
"""
# Not sorted, since the chain is in order. It is followed only as far as the limit needs.
_NEWEST = f"""{_CHAIN}
    SELECT notifications.* FROM chain CROSS JOIN notifications ON notification_id = id
    WHERE id < :before AND id > down_to LIMIT :limit
"""  # noqa: S608 - our own
_LEFT_UNSEEN = """
    SELECT * FROM notifications WHERE notification_id IN (
        SELECT notification_id FROM left_unseen
        WHERE owner = (SELECT name_id FROM names WHERE name = :owner) AND notification_id < :before
        ORDER BY notification_id DESC LIMIT :limit
    ) ORDER BY notification_id DESC
"""
_NEWEST_ID = "SELECT newest FROM names JOIN inboxes ON owner = name_id WHERE name = ?"
_AFTER = """
    WITH RECURSIVE chain (id) AS (
        SELECT newest FROM names JOIN inboxes ON owner = name_id WHERE name = :owner AND newest > :last
        UNION ALL
        SELECT previous FROM chain JOIN notices ON notification_id = id WHERE previous > :last
    )
    SELECT id FROM chain
"""
_BY_ID = """
    SELECT * FROM notifications
    WHERE notification_id IN (SELECT value FROM json_each(?)) ORDER BY notification_id
"""
_ALL_UNSEEN = f"""{_CHAIN}
    SELECT id FROM chain WHERE id > down_to
    UNION ALL SELECT notification_id FROM left_unseen JOIN inbox USING (owner)
"""  # noqa: S608 - our own
_STILL_UNSEEN = """
    SELECT * FROM notifications
    WHERE notification_id IN (SELECT value FROM json_each(?)) AND NOT acknowledged ORDER BY notification_id
"""


class Inbox:
    """All inboxes of this member's notify service."""

    def __init__(
        self, database: Database, now_us: Callable[[], int] = lambda: time.time_ns() // 1_000
    ) -> None:
        """`now_us`: Unix time in microseconds, from which ids are made."""
        self._database = database
        self._now_us = now_us

    async def next_block(self) -> int:
        """The first block that has not been told."""
        row = await self._database.row("SELECT next_block FROM progress")
        assert row is not None  # noqa: S101 - the schema puts it there
        return int(row["next_block"])

    async def known(self, addresses: Collection[str]) -> dict[str, Identity]:
        """The known ones of these identities, by address."""
        rows = await self._database.rows(
            f"{_IDENTITIES} WHERE address IN (SELECT value FROM json_each(?))",  # noqa: S608 - our own
            (json_list(addresses),),
        )
        return {row[0]: Identity._make(row) for row in rows}

    async def staff(self) -> list[Identity]:
        """Active administrators and privacy officers of all members."""
        rows = await self._database.rows(
            f"{_IDENTITIES} WHERE role IN (?, ?) AND status = ?",
            (
                command_pb2.ROLE_ADMINISTRATOR,
                command_pb2.ROLE_PRIVACY_OFFICER,
                state_pb2.IDENTITY_STATUS_ACTIVE,
            ),
        )
        return [Identity._make(row) for row in rows]

    async def keep(
        self, notices: Collection[Notice], identities: Collection[Identity], next_block: int
    ) -> list[Notification]:
        """In one transaction, put notices into their inboxes, each once, and save the next block.

        Gives those that were new.
        """

        def put(db: sqlite3.Connection) -> list[Notification]:
            db.execute("UPDATE progress SET next_block = max(next_block, ?)", (next_block,))
            write_rows(db, _INSERT_IDENTITY, [*identities], _IF_NEWER)
            return notice_writer.keep(db, notices, self._now_us())

        return await self._database.write(put)

    async def newest_id(self, owner: str) -> int:
        """The id of the owner's newest notification; 0: none."""
        row = await self._database.row(_NEWEST_ID, (owner,))
        return int(row["newest"]) if row else 0

    async def after(self, owner: str, last: int) -> AsyncIterator[Notification]:
        """The owner's notifications after `last`, oldest first, without those that come after this call."""
        rows = await self._database.rows(_AFTER, {"owner": owner, "last": last})
        ids = sorted(int(row[0]) for row in rows)
        for start in range(0, len(ids), _READ_AT_ONCE):
            for one in await self._read(_BY_ID, (json_list(ids[start : start + _READ_AT_ONCE]),)):
                yield one

    async def remove_some(self, before_ms: int) -> int:
        """Remove some of the oldest notifications from before that time (Unix ms); gives how many."""
        return await self._database.write(lambda db: notice_writer.remove_some(db, before_ms))

    async def newest(
        self, owner: str, *, before: int | None, limit: int, unacknowledged_only: bool
    ) -> list[Notification]:
        """A page of an inbox, newest first, with ids below `before`.

        Found at once when `before` is an id of this inbox. Otherwise newer ones are skipped one by one.
        """
        below = before if before is not None else _AFTER_ALL
        asked = {"owner": owner, "before": below, "unseen_only": unacknowledged_only, "limit": limit}
        page = await self._read(_NEWEST, asked)
        if unacknowledged_only and len(page) < limit:
            below = page[-1].notification_id if page else below
            page += await self._read(
                _LEFT_UNSEEN, {"owner": owner, "before": below, "limit": limit - len(page)}
            )
        return page

    async def unacknowledged(self, owner: str) -> AsyncIterator[Notification]:
        """All that the owner has not seen, oldest first, without those that come after this call."""
        asked = {"owner": owner, "before": _AFTER_ALL, "unseen_only": True}
        ids = sorted(int(row[0]) for row in await self._database.rows(_ALL_UNSEEN, asked))
        for start in range(0, len(ids), _READ_AT_ONCE):
            for one in await self._read(_STILL_UNSEEN, (json_list(ids[start : start + _READ_AT_ONCE]),)):
                yield one

    async def acknowledge(self, owner: str, ids: Collection[int]) -> int:
        """Mark as seen; how many changed. Ids of other inboxes change nothing."""
        return await self._database.write(lambda db: notice_writer.acknowledge(db, owner, ids))

    async def _read(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any]) -> list[Notification]:
        return [notification(row) for row in await self._database.rows(sql, parameters)]
