"""A control group of our own in every hierarchy, below which a node puts its pods, and its end."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
# Of version 1; each is a hierarchy of its own, some may be one folder under two names.
_HIERARCHIES = (
    *("cpu", "cpuacct", "cpuset", "memory", "pids"),
    *("devices", "freezer", "blkio", "hugetlb", "systemd", "unified"),
)
_CONTROLLERS = "+cpu +cpuset +memory +pids"
_GONE_SECONDS = 20.0


@contextmanager
def group(name: str, root: Path = ROOT) -> Iterator[None]:
    """Have the group `name` while the block lasts; what still runs in it afterwards must be ending."""
    folders = _folders(name, root)
    try:
        for folder in folders:
            folder.mkdir(exist_ok=True)
            _inherit(folder)
        yield
    finally:
        _remove(folders)


def _folders(name: str, root: Path) -> list[Path]:
    if (root / "cgroup.controllers").exists():
        return [root / name]
    found = [root / hierarchy for hierarchy in _HIERARCHIES]
    return [folder / name for folder in found if (folder / "cgroup.procs").exists()]


def _inherit(folder: Path) -> None:
    offered = folder.parent / "cgroup.controllers"
    # Beside version 1 there may be a hierarchy of version 2 with no controllers.
    if offered.exists() and "memory" in offered.read_text().split():
        (folder.parent / "cgroup.subtree_control").write_text(_CONTROLLERS)
        (folder / "cgroup.subtree_control").write_text(_CONTROLLERS)
    # In version 1 a new group may use no processor and no memory until it is told which.
    for file in ("cpuset.cpus", "cpuset.mems"):
        if (folder / file).exists() and not (folder / file).read_text().strip():
            inherited = (folder.parent / file).read_text().strip()
            if inherited:
                (folder / file).write_text(inherited)


def _remove(folders: list[Path]) -> None:
    """Remove the groups and those below them; one whose processes are just ending is tried again."""
    ends_at = time.monotonic() + _GONE_SECONDS
    while any(folder.exists() for folder in folders):
        for folder in folders:
            for path, _, _ in os.walk(folder, topdown=False):
                with suppress(OSError):
                    os.rmdir(path)
        if time.monotonic() > ends_at:
            left = ", ".join(str(folder) for folder in folders if folder.exists())
            raise OSError(f"these control groups still hold processes: {left}")
        time.sleep(0.1)
