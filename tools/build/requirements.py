"""Is this machine able to build? Python, Go, a C compiler and room on the disk; nothing else is needed."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError

GO_MINIMUM = (1, 26)
USUAL_GO = (Path("/usr/local/go/bin/go"), Path("/usr/lib/go/bin/go"), Path.home() / "go" / "bin" / "go")
# Module cache, build cache, tools and environment of a first build.
DISK_MINIMUM_BYTES = 5 * 1024**3


@dataclass(frozen=True)
class Machine:
    """The versions that go into what is built."""

    python: str
    go: str


def check(root: Path, *, first_time: bool) -> Machine:
    """The machine's tools.

    Raises:
        BuildError: one is missing or too old; says which, and how to get it.
    """
    go = _go_version(root)
    _c_compiler(root)
    if first_time:
        _disk(root)
    return Machine(python=f"{sys.version_info.major}.{sys.version_info.minor}", go=go)


def parse_go_version(text: str) -> tuple[int, int]:
    """`go1.26.8` → (1, 26)."""
    match = re.match(r"(?:go|devel go)(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _go_version(root: Path) -> str:
    minimum = ".".join(str(part) for part in GO_MINIMUM)
    if shutil.which("go") is None:
        for candidate in USUAL_GO:
            if candidate.exists():
                raise BuildError(
                    f"Go is installed ({candidate}) but not on PATH.",
                    f"Run: export PATH=$PATH:{candidate.parent}",
                )
        raise BuildError(
            f"Go is not installed; CBMDHI builds Fabric, Kubo and its chaincode with Go {minimum} or newer.",
            "Install it as go.dev/doc/install says (no root needed) and put its bin folder on PATH.",
        )
    found = _output(["go", "env", "GOVERSION"], root)
    if parse_go_version(found) < GO_MINIMUM:
        raise BuildError(
            f"Go {minimum} or newer is needed; {shutil.which('go')} is {found or 'of an unknown version'}.",
            "Install a newer one as go.dev/doc/install says and put its bin folder first on PATH.",
        )
    return found


def _c_compiler(root: Path) -> None:
    named = _output(["go", "env", "CC"], root).split()
    compiler = named[0] if named else "cc"
    if shutil.which(compiler) is None:
        raise BuildError(
            f"No C compiler: `{compiler}` is not on PATH; Fabric CA needs one for its SQLite.",
            "Install one (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; "
            "macOS: xcode-select --install).",
        )
    if _output(["go", "env", "CGO_ENABLED"], root) == "0":
        raise BuildError(
            "CGO_ENABLED is 0; Fabric CA needs cgo.", "Run: unset CGO_ENABLED; go env -u CGO_ENABLED"
        )


def _disk(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < DISK_MINIMUM_BYTES:
        raise BuildError(
            f"A first build needs about {DISK_MINIMUM_BYTES // 1024**3} GiB; "
            f"{free / 1024**3:.1f} GiB are free at {root}.",
            "Make room, or clone to a larger disk (GOMODCACHE and GOCACHE can point there too).",
        )


def _output(argv: list[str], root: Path) -> str:
    completed = subprocess.run(argv, cwd=root, env=os.environ, capture_output=True, text=True, check=False)
    return completed.stdout.strip()
