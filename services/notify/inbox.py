"""The inboxes and what is known of identities, in SQLite. All of it can be derived again from the channel."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from sqlite3 import Row

import orjson

from cbmdhi.command.v1 import command_pb2, state_pb2
from services.notify.domain import Announcement, Identity, Notice
from services.runtime.sqlite import Database

MIGRATIONS = (
    """
    CREATE TABLE notifications (
        notification_id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL, kind TEXT NOT NULL, tx_id TEXT NOT NULL,
        block INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL, actor_msp TEXT NOT NULL,
        record_id TEXT NOT NULL, version INTEGER NOT NULL, category TEXT NOT NULL, purpose TEXT NOT NULL,
        consent_id TEXT NOT NULL, code INTEGER NOT NULL, command_id TEXT NOT NULL, subject TEXT NOT NULL,
        acknowledged INTEGER NOT NULL DEFAULT 0,
        UNIQUE (tx_id, command_id, kind, owner, actor)
    ) STRICT;
    CREATE INDEX notifications_by_owner ON notifications (owner, notification_id);
    CREATE INDEX notifications_unseen ON notifications (owner, notification_id) WHERE acknowledged = 0;
    CREATE TABLE identities (
        address TEXT PRIMARY KEY, role INTEGER NOT NULL, home_msp TEXT NOT NULL,
        status INTEGER NOT NULL, version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identities_by_role ON identities (role, status);
    CREATE TABLE inbox (inbox_id TEXT NOT NULL) STRICT;
    """,
)

_NOTICE_COLUMNS = tuple(one.name for one in fields(Notice))
_IDENTITY_COLUMNS = tuple(one.name for one in fields(Identity))
_INSERT = (
    f"INSERT OR IGNORE INTO notifications ({', '.join(_NOTICE_COLUMNS)}) "  # noqa: S608 - our own names
    f"VALUES ({', '.join('?' * len(_NOTICE_COLUMNS))})"
)
_UPSERT = (
    f"INSERT INTO identities ({', '.join(_IDENTITY_COLUMNS)}) "  # noqa: S608 - our own names
    f"VALUES ({', '.join('?' * len(_IDENTITY_COLUMNS))}) ON CONFLICT (address) DO UPDATE SET "
    "role = excluded.role, home_msp = excluded.home_msp, "
    "status = excluded.status, version = excluded.version "
    "WHERE excluded.version > identities.version"
)


@dataclass(frozen=True)
class Notification:
    """A notice in its owner's inbox."""

    notification_id: int
    notice: Notice
    acknowledged: bool


class Inbox:
    """All inboxes of this member's notify service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def inbox_id(self) -> str:
        """A random name of this file: with a new file, the stream is read again from its beginning."""
        async with self._database.transaction() as db:
            await db.execute(
                "INSERT INTO inbox (inbox_id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM inbox)",
                (secrets.token_hex(8),),
            )
        row = await self._database.row("SELECT inbox_id FROM inbox")
        assert row is not None  # noqa: S101 - written above
        return str(row["inbox_id"])

    async def known(self, addresses: Sequence[str]) -> dict[str, Identity]:
        """What is known of these identities."""
        rows = await self._database.rows(
            "SELECT * FROM identities WHERE address IN (SELECT value FROM json_each(?))",
            (_json_list(addresses),),
        )
        return {row["address"]: _identity(row) for row in rows}

    async def staff(self) -> list[Identity]:
        """Active administrators and privacy officers of all members."""
        rows = await self._database.rows(
            "SELECT * FROM identities WHERE role IN (?, ?) AND status = ?",
            (
                command_pb2.ROLE_ADMINISTRATOR,
                command_pb2.ROLE_PRIVACY_OFFICER,
                state_pb2.IDENTITY_STATUS_ACTIVE,
            ),
        )
        return [_identity(row) for row in rows]

    async def keep(self, announcement: Announcement) -> list[Notification]:
        """Put notices into their inboxes, at once and once only; those that were not there yet."""
        async with self._database.transaction() as db:
            async with db.execute("SELECT max(notification_id) AS last FROM notifications") as cursor:
                row = await cursor.fetchone()
            last = (row["last"] if row is not None else None) or 0
            await db.executemany(_INSERT, [astuple(notice) for notice in announcement.notices])
            await db.executemany(_UPSERT, [astuple(identity) for identity in announcement.identities])
            sql = "SELECT * FROM notifications WHERE notification_id > ? ORDER BY notification_id"
            async with db.execute(sql, (last,)) as cursor:
                return [_notification(row) for row in await cursor.fetchall()]

    async def newest(
        self, owner: str, *, before: int | None, limit: int, unacknowledged_only: bool
    ) -> list[Notification]:
        """A page of an inbox, newest first, with ids below `before`."""
        unseen = " AND acknowledged = 0" if unacknowledged_only else ""
        rows = await self._database.rows(
            "SELECT * FROM notifications WHERE owner = ? AND notification_id < ?"  # noqa: S608 - our own
            f"{unseen} ORDER BY notification_id DESC LIMIT ?",
            (owner, before if before is not None else 1 << 62, limit),
        )
        return [_notification(row) for row in rows]

    async def unacknowledged(self, owner: str, *, after: int, limit: int) -> list[Notification]:
        """What the owner has not seen, oldest first, with ids above `after`."""
        rows = await self._database.rows(
            "SELECT * FROM notifications WHERE owner = ? AND acknowledged = 0 AND notification_id > ? "
            "ORDER BY notification_id LIMIT ?",
            (owner, after, limit),
        )
        return [_notification(row) for row in rows]

    async def acknowledge(self, owner: str, ids: Iterable[int]) -> int:
        """Mark as seen; how many changed. Ids of other inboxes change nothing."""
        async with self._database.transaction() as db:
            cursor = await db.execute(
                "UPDATE notifications SET acknowledged = 1 WHERE owner = ? AND acknowledged = 0 "
                "AND notification_id IN (SELECT value FROM json_each(?))",
                (owner, _json_list(ids)),
            )
            return cursor.rowcount


def _json_list(values: Iterable[str | int]) -> str:
    return orjson.dumps(list(values)).decode()


def _identity(row: Row) -> Identity:
    return Identity(*(row[name] for name in _IDENTITY_COLUMNS))


def _notification(row: Row) -> Notification:
    notice = Notice(*(row[name] for name in _NOTICE_COLUMNS))
    return Notification(row["notification_id"], notice, bool(row["acknowledged"]))
