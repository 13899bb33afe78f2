"""What a machine must have before a node can run on it, and how it is had."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ops.devnet.layout import ROOT
from tests.cluster.cgroups import ROOT as CGROUPS
from tests.cluster.node import HIDDEN, PLUGINS, plugin_folder

# Program, and the package of Debian and Ubuntu that holds it.
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "ldd": "libc-bin",
}
_PLUGINS_PACKAGE = "containernetworking-plugins"
_FREE_BYTES = 6 * 1024**3
_SYSTEM = "/usr/sbin:/sbin"


def missing() -> list[str]:
    """Everything that stands in the way, each with what to do about it; empty when a node can run."""
    found = [*_rights(), *_programs(), *_kernel(), *_folders([ROOT, Path(sys.base_prefix), temporary()])]
    free = shutil.disk_usage(temporary()).free
    if free < _FREE_BYTES:
        found.append(
            f"{_gigabytes(free)} are free in {temporary()}, and {_gigabytes(_FREE_BYTES)} are needed: "
            "make room, or name another folder with TMPDIR"
        )
    return found


def main() -> int:
    """Say what is missing; 1 when something is. Asked before anything is built."""
    problems = missing()
    for problem in problems:
        print(f"  ✗  {problem}", file=sys.stderr)
    return 1 if problems else 0


def temporary() -> Path:
    """Under which the run keeps what it needs while it lasts."""
    return Path(tempfile.gettempdir()).resolve()


def packages(lacking: Iterable[str]) -> list[str]:
    """Debian's packages of the programs that are not there; each once, in order."""
    return list(dict.fromkeys(PROGRAMS[program] for program in lacking))


def _rights() -> list[str]:
    if not sys.platform.startswith("linux"):
        return ["this is not Linux: a node needs its namespaces and control groups"]
    if os.geteuid() != 0:
        return ["a node needs root, for namespaces and mounts of its own: run it as root (sudo make k8s-run)"]
    return []


def _programs() -> list[str]:
    path = f"{os.environ.get('PATH', '')}:{_SYSTEM}"
    lacking = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    wanted = packages(lacking)
    what = list(lacking)
    if plugin_folder() is None:
        what.append(f"the pod network's programs ({', '.join(PLUGINS)})")
        wanted.append(_PLUGINS_PACKAGE)
    if not what:
        return []
    return [f"not here: {', '.join(what)}. Debian, Ubuntu: apt-get install {' '.join(wanted)}"]


def _kernel() -> list[str]:
    if not (CGROUPS / "cgroup.controllers").exists() and not (CGROUPS / "cpu").exists():
        return [f"no control groups at {CGROUPS}: mount them (most systems do it themselves)"]
    return []


def _folders(needed: Iterable[Path]) -> list[str]:
    return [
        f"{path} lies under {folder}, which a node hides from its own programs: put it elsewhere"
        for path in needed
        for folder in HIDDEN
        if path.resolve().is_relative_to(folder)
    ]


def _gigabytes(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())
