import asyncio
import sqlite3
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database, write_rows

FIRST = "CREATE TABLE seen (id INTEGER PRIMARY KEY, what TEXT)"


async def test_what_a_transaction_wrote_is_there_after_opening_again(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database, database.transaction() as db:
        await db.execute("INSERT INTO seen (what) VALUES ('x')")

    async with Database(tmp_path / "a.db", [FIRST]) as database:
        assert [row["what"] for row in await database.rows("SELECT what FROM seen")] == ["x"]
        assert await database.check() is None


async def test_a_transaction_that_raises_leaves_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:

        async def fail() -> None:
            async with database.transaction() as db:
                await db.execute("INSERT INTO seen (what) VALUES ('x')")
                assert await database.rows("SELECT * FROM seen") == []
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert await database.rows("SELECT * FROM seen") == []
        async with database.transaction() as db:
            await db.execute("INSERT INTO seen (what) VALUES ('y')")
        assert len(await database.rows("SELECT * FROM seen")) == 1


async def test_a_writer_cancelled_while_its_transaction_begins_harms_none_after_it(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:

        async def write() -> None:
            async with database.transaction() as db:
                await db.execute("INSERT INTO seen (what) VALUES ('x')")

        for turns in range(6):
            task = asyncio.create_task(write())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await write()


async def test_many_rows_are_written_at_once_and_in_order(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:
        rows = [(str(number),) for number in range(100)]
        await database.write(lambda db: write_rows(db, "INSERT INTO seen (what)", rows))
        await database.write(lambda db: write_rows(db, "INSERT INTO seen (what)", []))

        found = await database.rows("SELECT what FROM seen ORDER BY id")
        assert [(row["what"],) for row in found] == rows


async def test_rows_that_are_there_already_are_treated_as_the_end_of_the_statement_says(
    tmp_path: Path,
) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:
        for what in ("old", "new"):
            rows = [(number, what) for number in range(40)]
            await database.write(
                lambda db, rows=rows: write_rows(
                    db, "INSERT INTO seen", rows, "ON CONFLICT (id) DO UPDATE SET what = excluded.what"
                )
            )

        assert {row["what"] for row in await database.rows("SELECT what FROM seen")} == {"new"}


async def test_a_write_that_raises_leaves_nothing_and_harms_none_after_it(tmp_path: Path) -> None:
    def fail(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO seen (what) VALUES ('x')")
        raise RuntimeError

    async with Database(tmp_path / "a.db", [FIRST]) as database:
        with pytest.raises(RuntimeError):
            await database.write(fail)
        async with database.transaction() as db:
            await db.execute("INSERT INTO seen (what) VALUES ('y')")
        await database.write(lambda db: write_rows(db, "INSERT INTO seen (what)", [("z",)]))

        assert [row["what"] for row in await database.rows("SELECT what FROM seen")] == ["y", "z"]


async def test_a_write_whose_caller_went_away_harms_none_after_it(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:
        for turns in range(4):
            task = asyncio.create_task(
                database.write(lambda db: write_rows(db, "INSERT INTO seen (what)", [("x",)]))
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            async with database.transaction() as db:
                await db.execute("INSERT INTO seen (what) VALUES ('y')")

        assert len(await database.rows("SELECT * FROM seen WHERE what = 'y'")) == 4


async def test_an_older_file_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database, database.transaction() as db:
        await db.execute("INSERT INTO seen (what) VALUES ('x')")

    async with Database(tmp_path / "a.db", [FIRST, "ALTER TABLE seen ADD COLUMN at INTEGER"]) as database:
        row = await database.row("SELECT what, at FROM seen")
        assert row is not None
        assert (row["what"], row["at"]) == ("x", None)


async def test_a_failed_migration_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nonsense"):
        async with Database(tmp_path / "a.db", [FIRST + "; CREATE TABLE two (id); nonsense"]):
            pass

    async with Database(tmp_path / "a.db", [FIRST]) as database:
        names = await database.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert [row["name"] for row in names] == ["seen"]


async def test_a_file_of_a_newer_program_is_refused_in_a_sentence(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST, "CREATE TABLE b (id)"]):
        pass

    with pytest.raises(MeshError) as caught:
        async with Database(tmp_path / "a.db", [FIRST]):
            pass

    assert caught.value.code == code_pb2.CODE_CONFLICT
    assert "newer" in caught.value.reason


@pytest.mark.parametrize(("can_be_rebuilt", "synchronous"), [(True, 1), (False, 2)])
async def test_what_cannot_be_rebuilt_is_on_the_disk_before_it_counts(
    tmp_path: Path, can_be_rebuilt: bool, synchronous: int
) -> None:
    async with Database(tmp_path / "kept.db", (), can_be_rebuilt=can_be_rebuilt) as database:
        async with database.transaction() as connection, connection.execute("PRAGMA synchronous") as cursor:
            by_transaction = await cursor.fetchone()
        by_function = await database.write(lambda db: db.execute("PRAGMA synchronous").fetchone())

    assert [tuple(by_transaction or ()), tuple(by_function)] == [(synchronous,), (synchronous,)]


async def test_a_full_disk_is_said_with_the_file_and_the_next_write_works_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:

        async def grow(_: object = None) -> None:
            async with database.transaction() as db:
                await db.execute("INSERT INTO seen (what) VALUES (?)", ("x" * 100_000,))

        def grow_in_thread(db: sqlite3.Connection) -> None:
            # SQLite's own limit: it fails as on a full disk.
            db.execute("PRAGMA max_page_count = 3")
            db.execute("INSERT INTO seen (what) VALUES (?)", ("x" * 100_000,))

        with pytest.raises(MeshError) as full:
            await database.write(grow_in_thread)
        assert full.value.code == code_pb2.CODE_UNAVAILABLE
        assert str(tmp_path / "a.db") in full.value.reason
        assert "make room" in full.value.reason
        await grow()
        assert len(await database.rows("SELECT * FROM seen")) == 1


async def test_a_read_that_the_disk_fails_is_said_with_the_file_too(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:
        # SQLite's own word for a file that cannot be opened.
        failing = "ATTACH ? AS elsewhere", (str(tmp_path / "nowhere" / "b.db"),)
        for read in (database.rows, database.row):
            with pytest.raises(MeshError) as caught:
                await read(*failing)
            assert caught.value.code == code_pb2.CODE_UNAVAILABLE
            assert str(tmp_path / "a.db") in caught.value.reason
        with pytest.raises(sqlite3.OperationalError):
            await database.rows("SELECT * FROM a table of ours that is not there")
        assert await database.rows("SELECT * FROM seen") == []


async def test_a_disk_that_is_nearly_full_is_a_reason_not_to_be_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(tmp_path / "a.db", [FIRST]) as database:
        monkeypatch.setattr("services.runtime.sqlite._LEAST_FREE_BYTES", 1 << 62)

        problem = await database.check()

    assert problem is not None
    assert "make room" in problem


async def test_a_process_that_stands_still_in_a_transaction_is_said_and_is_no_fault_of_the_others(
    tmp_path: Path,
) -> None:
    async with Database(tmp_path / "a.db", [FIRST], busy_timeout_seconds=0.1) as database:

        async def begin() -> None:
            async with database.transaction() as db:
                await db.execute("INSERT INTO seen (what) VALUES ('x')")

        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for write in (begin, lambda: database.write(lambda db: db.execute("DELETE FROM seen"))):
            with pytest.raises(MeshError) as caught:
                await write()
            assert caught.value.code == code_pb2.CODE_UNAVAILABLE
        other.execute("ROLLBACK")
        other.close()

        await begin()
        assert len(await database.rows("SELECT * FROM seen")) == 1
