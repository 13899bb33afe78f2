"""A small SQLite database: WAL, one writer, migrations by PRAGMA user_version."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from sqlite3 import Row
from typing import Any, TypeVar

import aiosqlite
import orjson

from services.runtime.errors import MeshError

T = TypeVar("T")

_ROWS_TOGETHER = 32
_CACHE_MIB = 32
_WAL_PAGES = 8_000  # of 4 KiB
_CACHED_STATEMENTS = 512
_LEAST_FREE_BYTES = 64 << 20
# What the disk does to a read or a write; the low byte of SQLite's error code.
_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)


class Database:
    """`async with Database(path, migrations)`: writers take turns, one connection reads.

    migrations      SQL scripts; the n-th takes the schema from version n to n + 1. Append, never change.
    can_be_rebuilt  what it holds follows from elsewhere: then a power cut may take the last transactions
                    (https://www.sqlite.org/pragma.html#pragma_synchronous, NORMAL with WAL). When False each
                    transaction is on the disk before it counts
    cache_mib       pages that each of three connections keeps in memory at most
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        *,
        can_be_rebuilt: bool = True,
        busy_timeout_seconds: float = 5.0,
        cache_mib: int = _CACHE_MIB,
    ) -> None:
        self._path = path
        self._cache_kib = cache_mib * 1024
        self._synchronous = "NORMAL" if can_be_rebuilt else "FULL"
        self._migrations = migrations
        self._busy_timeout_ms = int(busy_timeout_seconds * 1000)
        self._lock = asyncio.Lock()
        self._writer: aiosqlite.Connection
        self._thread = ThreadPoolExecutor(1, "sqlite-write")
        self._of_thread: sqlite3.Connection
        self._reader: aiosqlite.Connection

    async def __aenter__(self) -> "Database":
        with self._disk_errors():
            self._writer = await self._connect()
            try:
                await self._migrate()
                self._reader = await self._connect()
                self._of_thread = await self._in_thread(self._connect_thread)
            except BaseException:
                await self._writer.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in_thread(self._of_thread.close)
        self._thread.shutdown()
        await self._reader.close()
        await self._writer.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """Write: committed when the block ends, rolled back when it raises. One at a time."""
        async with self._lock:
            with self._disk_errors():
                try:
                    # Inside: a cancellation while this waits may leave a transaction begun all the same.
                    await self._writer.execute("BEGIN IMMEDIATE")
                    yield self._writer
                    await self._writer.commit()
                except BaseException:
                    await self._writer.rollback()
                    raise

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """`work` as a transaction, as a whole in a thread of its own: for many statements at once.

        Committed when it returns, rolled back when it raises. Cancelled, it may be committed all the same.
        """

        def transaction() -> T:
            db = self._of_thread
            db.execute("BEGIN IMMEDIATE")
            try:
                result = work(db)
                db.execute("COMMIT")
            except BaseException:
                db.rollback()
                raise
            return result

        async with self._lock:
            with self._disk_errors():
                return await self._in_thread(transaction)

    async def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Read what is committed."""
        with self._disk_errors():
            async with self._reader.execute(sql, parameters) as cursor:
                return list(await cursor.fetchall())

    async def row(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Row | None:
        with self._disk_errors():
            async with self._reader.execute(sql, parameters) as cursor:
                return await cursor.fetchone()

    async def check(self) -> str | None:
        """For readiness: it answers, and there is room for what comes."""
        await self.row("SELECT 1")
        free = shutil.disk_usage(self._path.parent).free
        if free < _LEAST_FREE_BYTES:
            return f"{free >> 20} MiB are free for {self._path}; make room on that disk"
        return None

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """A full or failing disk is the operator's to mend: it is said, and is no fault of the program.

        Nor is another process over the same file that stands still in the middle of a transaction.
        """
        try:
            yield
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise MeshError.unavailable(
                    f"another process writes {self._path} and does not end; see what runs over it",
                    retry_after_ms=1_000,
                ) from exc
            if exc.sqlite_errorcode & 0xFF not in _OF_THE_DISK:
                raise
            raise MeshError.unavailable(
                f"{self._path} cannot be written or read ({exc}): make room on its disk, see to its rights"
            ) from exc

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _connect(self) -> aiosqlite.Connection:
        connection = await aiosqlite.connect(self._path, isolation_level=None)
        connection.row_factory = Row
        for pragma in self._pragmas():
            await connection.execute(pragma)
        return connection

    def _connect_thread(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, cached_statements=_CACHED_STATEMENTS)
        connection.row_factory = Row
        for pragma in self._pragmas():
            connection.execute(pragma)
        return connection

    def _pragmas(self) -> Sequence[str]:
        return (
            "PRAGMA journal_mode = WAL",
            f"PRAGMA synchronous = {self._synchronous}",
            f"PRAGMA busy_timeout = {self._busy_timeout_ms}",
            "PRAGMA foreign_keys = ON",
            # Indexes by person are written at random: pages shall stay in memory, and be written back seldom.
            f"PRAGMA cache_size = -{self._cache_kib}",
            f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}",
        )

    async def _migrate(self) -> None:
        async with self._writer.execute("PRAGMA user_version") as cursor:
            row = await cursor.fetchone()
        version = int(row[0]) if row else 0
        if version > len(self._migrations):
            raise MeshError.conflict(
                f"{self._path} has a newer program's schema: run that program, or remove the file"
            )
        for number, script in enumerate(self._migrations[version:], start=version + 1):
            await self._writer.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )


def json_list(values: Iterable[object]) -> str:
    """For `IN (SELECT value FROM json_each(?))`."""
    return orjson.dumps(list(values)).decode()


def write_rows(db: sqlite3.Connection, insert: str, rows: Sequence[tuple[Any, ...]], after: str = "") -> None:
    """`INSERT INTO t (a, b)` for each row, in order; `after` follows the values, such as ON CONFLICT.

    Unlike `executemany`, many rows go into one statement: after each statement the thread has to get the
    interpreter back, and a busy event loop makes that the most expensive part.
    """
    for start in range(0, len(rows), _ROWS_TOGETHER):
        part = rows[start : start + _ROWS_TOGETHER]
        marks = f"({', '.join('?' * len(part[0]))})"
        db.execute(
            f"{insert} VALUES {', '.join([marks] * len(part))} {after}",
            [value for row in part for value in row],
        )
