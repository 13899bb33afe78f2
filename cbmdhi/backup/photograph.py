"""A member's files as they are at one instant, while it runs: as a power cut would leave them, but without one.

Its processes are stopped (SIGSTOP) for a moment: every store of the member survives `kill -9`, and what lies in
the files then is what they would find after it, all of the same instant. What is never rewritten is linked,
the rest copied; then the processes go on, and the photograph is read at leisure.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from cbmdhi.backup import guard
from cbmdhi.backup.archive import Taken
from cbmdhi.backup.errors import BackupError

# Longer is an outage: the guard ends it and the backup is given up.
LONGEST_SECONDS = 10.0
_STOPPING_SECONDS = 3.0
# Tables of LevelDB and pebble are written once.
_WRITTEN_ONCE = (".ldb", ".sst")
# Fabric's block files only grow: their first bytes stay.
_ONLY_GROWING = "blockfile_"


@dataclass(frozen=True)
class Photograph:
    """`taken`: what it shows. `seconds`: how long processes stood still; 0 when none ran."""

    taken: Sequence[Taken]
    seconds: float
    linked_bytes: int
    copied_bytes: int


def photograph(
    sources: Sequence[Path], base: Path, into: Path, find: Callable[[], Sequence[psutil.Process]]
) -> Photograph:
    """Photograph files and folders below `base` into the new folder `into`, of the same file system.

    `find` gives the processes that write to them.

    Raises:
        BackupError: they do not stand still, or not long enough.
    """
    processes = list(find())
    with _frozen(processes) as seconds:
        taken, linked, copied = _copy(sources, base, into)
        if {process.pid for process in find()} != {process.pid for process in processes}:
            raise BackupError("A program was started or ended during the backup.", "Try again.")
    return Photograph(taken, seconds(), linked, copied)


@contextmanager
def _frozen(processes: Sequence[psutil.Process]) -> Iterator[Callable[[], float]]:
    """Have the processes stand still; gives how long they did."""
    started = ended = 0.0
    if not processes:
        yield lambda: 0.0
        return
    argv = [sys.executable, guard.__file__, str(LONGEST_SECONDS)]
    argv += [f"{process.pid}:{process.create_time()}" for process in processes]
    # A session of its own: Ctrl-C must not reach it.
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as keeper:
        try:
            if keeper.stdout is None or keeper.stdout.readline() != b"ready\n":
                raise BackupError("The guard of the frozen programs does not start.", "Try again.")
            started = time.monotonic()
            for process in processes:
                process.suspend()
            _wait_stopped(processes)
            yield lambda: ended - started
        except psutil.Error as exc:
            raise BackupError(f"A program cannot be stopped for the backup: {exc}.", "Try again.") from exc
        finally:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.resume()
            ended = time.monotonic()
            keeper.communicate()
    if keeper.returncode == guard.PASSED:
        raise BackupError(
            f"Copying took longer than the {LONGEST_SECONDS:.0f} s that programs may stand still; they go on.",
            "Stop them first (make down) and take the backup then, or use a faster disk.",
        )


def _wait_stopped(processes: Sequence[psutil.Process]) -> None:
    """A thread in the middle of a write stops when that is done."""
    deadline = time.monotonic() + _STOPPING_SECONDS
    while not all(_stands_still(process.pid) for process in processes):
        if time.monotonic() > deadline:
            raise BackupError("A program does not stand still: it waits for the disk.", "Try again.")
        time.sleep(0.001)


def _stands_still(pid: int) -> bool:
    for task in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if task.read_text().rpartition(") ")[2][:1] not in "TtXZ":
                return False
    return True


def _copy(sources: Sequence[Path], base: Path, into: Path) -> tuple[list[Taken], int, int]:
    taken: list[Taken] = []
    linked = copied = 0
    for path in _walk(sources):
        found = path.lstat()
        name = path.relative_to(base)
        mode = stat.S_IMODE(found.st_mode)
        target = into / name
        if stat.S_ISDIR(found.st_mode):
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            taken.append(Taken(str(name), target, mode, 0, is_folder=True))
        elif stat.S_ISREG(found.st_mode):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.suffix in _WRITTEN_ONCE or path.name.startswith(_ONLY_GROWING):
                os.link(path, target)
                linked += found.st_size
            else:
                shutil.copyfile(path, target)
                target.chmod(0o600)
                copied += found.st_size
            taken.append(Taken(str(name), target, mode, found.st_size))
    return taken, linked, copied


def _walk(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        yield source
        if source.is_dir() and not source.is_symlink():
            for folder, folders, files in os.walk(source):
                yield from (Path(folder) / name for name in [*folders, *files])
