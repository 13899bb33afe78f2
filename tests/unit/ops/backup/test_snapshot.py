"""Programs stand still for the photograph, and go on whatever happens to the one who takes it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ops.backup import snapshot as module
from ops.backup.errors import BackupError
from ops.backup.snapshot import photograph
from tests.support.waiting import until

# Two databases and a file that only grows, written one after the other without a pause.
WRITER = """
import sqlite3, sys
first, second = (sqlite3.connect(f"{sys.argv[1]}/{name}.db", isolation_level=None) for name in "ab")
for db in (first, second):
    db.execute("PRAGMA journal_mode = WAL"); db.execute("CREATE TABLE n (n)")
grows = open(f"{sys.argv[1]}/blockfile_000000", "ab", buffering=0)
print("ready", flush=True)
number = 0
while True:
    grows.write(number.to_bytes(8, "big"))
    first.execute("INSERT INTO n VALUES (?)", (number,))
    second.execute("INSERT INTO n VALUES (?)", (number,))
    number += 1
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[psutil.Process]:
    (tmp_path / "data").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "data")], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def goes_on(folder: Path) -> Callable[[], bool]:
    """Gives True once the writer has written since now."""
    before = (folder / "blockfile_000000").stat().st_size
    return lambda: (folder / "blockfile_000000").stat().st_size > before


async def test_a_photograph_shows_all_stores_at_one_instant_while_they_are_written(
    tmp_path: Path, writer: psutil.Process
) -> None:
    data = tmp_path / "data"
    for attempt in range(5):
        await until(goes_on(data), "the writer writes")
        into = tmp_path / f"photo-{attempt}"
        photo = photograph([data], tmp_path, into, lambda: [writer])

        sizes = {each.name: each.size for each in photo.taken}
        grown = sizes["data/blockfile_000000"] // 8
        counts: list[int] = []
        for name in "ab":
            with sqlite3.connect(into / "data" / f"{name}.db") as db:
                [(count,)] = db.execute("SELECT count(*) FROM n")
                counts.append(count)
                assert [*db.execute("PRAGMA integrity_check")] == [("ok",)]
            db.close()
        assert 0 <= grown - counts[0] <= 1
        assert 0 <= counts[0] - counts[1] <= 1
        assert 0 < photo.seconds < module.LONGEST_SECONDS
        assert photo.linked_bytes >= 8 * grown
    await until(goes_on(data), "the writer goes on")


def test_what_is_at_rest_is_photographed_without_stopping_anything(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "key.pem").write_text("key")

    photo = photograph([tmp_path / "data"], tmp_path, tmp_path / "photo", list)

    assert photo.seconds == 0
    assert [(each.name, each.size) for each in photo.taken] == [("data", 0), ("data/key.pem", 3)]
    assert photo.taken[1].source.read_text() == "key"
    assert not (tmp_path / "photo").exists()


async def test_programs_go_on_when_the_copy_fails(tmp_path: Path, writer: psutil.Process) -> None:
    (tmp_path / "photo").write_text("in the way")

    with pytest.raises(OSError, match="photo"):
        photograph([tmp_path / "data"], tmp_path, tmp_path / "photo", lambda: [writer])

    await until(goes_on(tmp_path / "data"), "the writer goes on")


async def test_a_copy_that_takes_too_long_is_given_up_and_programs_go_on(
    tmp_path: Path, writer: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_SECONDS", 0.2)
    still: list[bool] = []

    def slow(*_: object) -> tuple[list[object], int, int]:
        still.append(writer.status() == psutil.STATUS_STOPPED)
        deadline = time.monotonic() + 20
        while writer.status() == psutil.STATUS_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        return [], 0, 0

    monkeypatch.setattr(module, "_copy", slow)
    with pytest.raises(BackupError, match="took longer") as refused:
        photograph([tmp_path / "data"], tmp_path, tmp_path / "photo", lambda: [writer])

    assert still == [True]
    assert "cbmdhi down --home" in refused.value.remedy
    await until(goes_on(tmp_path / "data"), "the writer goes on")


async def test_programs_go_on_when_the_backup_is_killed_in_the_middle(
    tmp_path: Path, writer: psutil.Process
) -> None:
    program = (
        "import sys, time, psutil; from pathlib import Path; from ops.backup import snapshot as module\n"
        "def copy(*_): print('frozen', flush=True); time.sleep(60)\n"
        "module._copy = copy\n"
        f"module.photograph([], Path('/'), Path('/'), lambda: [psutil.Process({writer.pid})])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as backup:  # noqa: ASYNC220
        try:
            assert backup.stdout is not None
            assert backup.stdout.readline() == b"frozen\n"
            assert writer.status() == psutil.STATUS_STOPPED
        finally:
            backup.send_signal(signal.SIGKILL)
    # Well before the guard's own deadline.
    await until(goes_on(tmp_path / "data"), "the writer goes on", seconds=module.LONGEST_SECONDS / 2)
