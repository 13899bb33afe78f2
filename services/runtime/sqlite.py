"""A small SQLite database that can be rebuilt: WAL, one writer, migrations by PRAGMA user_version."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Row
from types import TracebackType
from typing import Any

import aiosqlite

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError


class Database:
    """`async with Database(path, migrations)`: one connection writes, one reads.

    migrations  SQL scripts; the n-th takes the schema from version n to n + 1. Append, never change.
    """

    def __init__(self, path: Path, migrations: Sequence[str], *, busy_timeout_seconds: float = 5.0) -> None:
        self._path = path
        self._migrations = migrations
        self._busy_timeout_ms = int(busy_timeout_seconds * 1000)
        self._lock = asyncio.Lock()
        self._writer: aiosqlite.Connection
        self._reader: aiosqlite.Connection

    async def __aenter__(self) -> "Database":
        self._writer = await self._connect()
        try:
            await self._migrate()
            self._reader = await self._connect()
        except BaseException:
            await self._writer.close()
            raise
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._reader.close()
        await self._writer.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Write: committed when the block ends, rolled back when it raises. One at a time."""
        async with self._lock:
            try:
                # Inside: a cancellation while this waits may leave a transaction begun all the same.
                await self._writer.execute("BEGIN IMMEDIATE")
                yield self._writer
            except BaseException:
                await self._writer.rollback()
                raise
            await self._writer.commit()

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Read what is committed."""
        async with self._reader.execute(sql, parameters) as cursor:
            return list(await cursor.fetchall())

    async def row(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        async with self._reader.execute(sql, parameters) as cursor:
            return await cursor.fetchone()

    async def check(self) -> str | None:
        """For readiness."""
        await self.row("SELECT 1")
        return None

    async def _connect(self) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(self._path, isolation_level=None)
        connection.row_factory = Row
        for pragma in (
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"busy_timeout = {self._busy_timeout_ms}",
            "foreign_keys = ON",
        ):
            await connection.execute(f"PRAGMA {pragma}")
        return connection

    async def _migrate(self) -> None:
        async with self._writer.execute("PRAGMA user_version") as cursor:
            row = await cursor.fetchone()
        version = int(row[0]) if row else 0
        if version > len(self._migrations):
            raise MeshError(
                code_pb2.CODE_CONFLICT,
                f"{self._path} has a newer program's schema: run that program, or remove the file",
            )
        for number, script in enumerate(self._migrations[version:], start=version + 1):
            await self._writer.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )
