"""A member's files as they are at one instant, while it runs: as `kill -9` would leave them, but without it.

Its processes are stopped (SIGSTOP) for a moment: every store of the member survives `kill -9`, and what lies
in the files then is what they would find after it, all of the same instant. What is never rewritten is
linked, the rest copied; then the processes go on, and the photograph is read at leisure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from ops.backup import thaw_guard
from ops.backup.archive import LINKED, LONGEST_SECONDS, Taken
from ops.backup.errors import BackupError
from ops.devnet.layout import command_for

_STOPPING_SECONDS = 3.0


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

    `find` gives the processes that write to them. When there are none, nothing is copied: what was found is
    shown where it lies, and has to stay as it is until it was read.

    Raises:
        BackupError: they do not stand still, or not long enough.
    """
    processes = list(find())
    if not processes:
        return Photograph([_shown(path, base) for path in _walk(sources) if _belongs(path)], 0.0, 0, 0)
    with _frozen(processes, base) as seconds:
        taken, linked, copied = _copy(sources, base, into)
        if {process.pid for process in find()} != {process.pid for process in processes}:
            raise BackupError("A program was started or ended during the backup.", "Try again.")
    return Photograph(taken, seconds(), linked, copied)


@contextmanager
def _frozen(processes: Sequence[psutil.Process], home: Path) -> Iterator[Callable[[], float]]:
    """Have the processes of the network at `home` stand still; gives how long they did."""
    started = ended = 0.0
    argv = [sys.executable, thaw_guard.__file__, str(LONGEST_SECONDS)]
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
    if keeper.returncode == thaw_guard.PASSED:
        raise BackupError(
            f"Copying took longer than the {LONGEST_SECONDS:.0f} s that programs may stand still for.",
            f"Stop them first ({command_for(home, 'down')}) and take the backup then, or use a faster disk.",
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
    for path in filter(_belongs, _walk(sources)):
        shown = _shown(path, base)
        target = into / shown.name
        taken.append(replace(shown, source=target))
        if shown.is_folder:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _linked(path, target):
            linked += shown.size
        else:
            shutil.copyfile(path, target)
            target.chmod(0o600)
            copied += shown.size
    return taken, linked, copied


def _linked(path: Path, target: Path) -> bool:
    """Link a file that will stay as it is; False for others, and on another file system."""
    if not re.fullmatch(LINKED, str(path)):
        return False
    try:
        os.link(path, target)
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        return False
    return True


def _belongs(path: Path) -> bool:
    """Folders and files; not sockets, nor what a link points to."""
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) or stat.S_ISREG(mode)


def _shown(path: Path, base: Path) -> Taken:
    found = path.lstat()
    is_folder = stat.S_ISDIR(found.st_mode)
    size = 0 if is_folder else found.st_size
    return Taken(str(path.relative_to(base)), path, stat.S_IMODE(found.st_mode), size, is_folder)


def _walk(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        yield source
        if source.is_dir() and not source.is_symlink():
            for folder, folders, files in os.walk(source):
                yield from (Path(folder) / name for name in [*folders, *files])
