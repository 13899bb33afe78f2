"""The inboxes and what is known of identities, in SQLite. All of it can be derived again from the channel."""

import secrets
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from sqlite3 import Row

import orjson

from cbmdhi.command.v1 import command_pb2, state_pb2
from services.notify.domain import Identity, Notice
from services.runtime.sqlite import Database, write_rows

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

_NOTICE_COLUMNS = Notice._fields
_IDENTITY_COLUMNS = Identity._fields
_INSERT = f"INSERT OR IGNORE INTO notifications ({', '.join(_NOTICE_COLUMNS)})"
_INSERT_IDENTITY = f"INSERT INTO identities ({', '.join(_IDENTITY_COLUMNS)})"
_IF_NEWER = (
    "ON CONFLICT (address) DO UPDATE SET role = excluded.role, home_msp = excluded.home_msp, "
    "status = excluded.status, version = excluded.version "
    "WHERE excluded.version > identities.version"
)


@dataclass(frozen=True)
class Notification:
    """A notice in its owner's inbox."""

    notification_id: int
    notice: Notice
    acknowledged: bool


@dataclass(frozen=True)
class Kept:
    """What was new of some notices: how many of each kind, with ids above `after`."""

    after: int
    kinds: dict[str, int]


class Inbox:
    """All inboxes of this member's notify service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def inbox_id(self) -> str:
        """A random name of this file: with a new file, the stream is read again from its beginning."""
        await self._database.write(
            lambda db: db.execute(
                "INSERT INTO inbox (inbox_id) SELECT ? WHERE NOT EXISTS (SELECT 1 FROM inbox)",
                (secrets.token_hex(8),),
            )
        )
        row = await self._database.row("SELECT inbox_id FROM inbox")
        assert row is not None  # noqa: S101 - written above
        return str(row["inbox_id"])

    async def known(self, addresses: Collection[str]) -> dict[str, Identity]:
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

    async def keep(self, notices: Collection[Notice], identities: Collection[Identity]) -> Kept:
        """Put notices into their inboxes, all at once and each once only; what was not there yet."""

        def put(db: sqlite3.Connection) -> Kept:
            after = db.execute("SELECT max(notification_id) FROM notifications").fetchone()[0] or 0
            write_rows(db, _INSERT, [*notices])
            write_rows(db, _INSERT_IDENTITY, [*identities], _IF_NEWER)
            kinds = db.execute(
                "SELECT kind, count(*) FROM notifications WHERE notification_id > ? GROUP BY kind", (after,)
            )
            return Kept(after, dict(kinds.fetchall()))

        if not notices and not identities:
            return Kept(0, {})
        return await self._database.write(put)

    async def added(self, after: int, owners: Collection[str]) -> list[Notification]:
        """What came for these owners with ids above `after`, oldest first."""
        rows = await self._database.rows(
            "SELECT * FROM notifications WHERE notification_id > ? "
            "AND owner IN (SELECT value FROM json_each(?)) ORDER BY notification_id",
            (after, _json_list(owners)),
        )
        return [_notification(row) for row in rows]

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
        listed = _json_list(ids)

        def mark(db: sqlite3.Connection) -> int:
            return db.execute(
                "UPDATE notifications SET acknowledged = 1 WHERE owner = ? AND acknowledged = 0 "
                "AND notification_id IN (SELECT value FROM json_each(?))",
                (owner, listed),
            ).rowcount

        return await self._database.write(mark)


def _json_list(values: Iterable[str | int]) -> str:
    return orjson.dumps(list(values)).decode()


def _identity(row: Row) -> Identity:
    return Identity(*(row[name] for name in _IDENTITY_COLUMNS))


def _notification(row: Row) -> Notification:
    notice = Notice(*(row[name] for name in _NOTICE_COLUMNS))
    return Notification(row["notification_id"], notice, bool(row["acknowledged"]))
