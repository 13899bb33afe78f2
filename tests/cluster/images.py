"""The images of a trial, made from the steps of deploy/images without Docker and without a registry.

Their bases are this machine's own files (rootfs.py). Each is an archive in .tools/images, made anew when what
it is made from has changed.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ops.devnet.layout import ROOT, tool
from tests.cluster import archive, node_config, rootfs
from tools.build import fingerprint
from tools.build.fingerprint import Stamp, Stamps

FOLDER = ROOT / ".tools" / "images"
_IMAGES = ROOT / "deploy" / "images"
_GO_PROGRAMS = ("peer", "orderer", "fabric-ca-server", "ipfs", "cbmdhi-chaincode")
_CLUSTER_PROGRAMS = ("pause", "coredns", "metrics-server", "kube-state-metrics")
# What bases have in real images, too: for the peer's builder scripts, and for backups (backup/photograph.sh).
SHELL = (
    *("sh", "cat", "cp", "grep", "mkdir", "tr"),
    *("date", "find", "head", "rm", "sleep", "timeout"),
)


class ImageFailed(Exception):
    """An image could not be made; the words of what made it."""


@dataclass(frozen=True)
class Image:
    """`fill` puts its files under a folder; `made_from`: what decides whether it is made anew."""

    name: str
    tag: str
    dockerfile: Path | None
    fill: Callable[[Path], None]
    made_from: Callable[[], Iterable[Path]]

    @property
    def path(self) -> Path:
        """Its archive."""
        return FOLDER / f"{self.name}.tar"


def make(image: Image) -> bool:
    """Bring an image's archive up to date; True when it had to be made.

    Raises:
        ImageFailed: its steps ended with an error.
    """
    stamps = Stamps(ROOT / ".tools" / "stamps")
    found = fingerprint.of(ROOT, image.made_from(), [image.tag, sys.version, sys.base_prefix])
    known = stamps.read(f"image-{image.name}")
    if known and known.fingerprint == found and image.path.exists():
        return False
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cbmdhi-image-") as folder:
        root = Path(folder) / "root"
        rootfs.begin(root)
        # Readable by others than root, who made it.
        root.chmod(0o755)
        image.fill(root)
        rootfs.add_libraries(root)
        archive.write(image.path, image.tag, root, _settings(image), platform.machine())
    stamps.write(f"image-{image.name}", Stamp(found, time.monotonic() - begun))
    return True


def _settings(image: Image) -> dict[str, object]:
    if image.dockerfile is None:
        return {"Env": ["PATH=/usr/bin:/bin"], "Entrypoint": ["/usr/bin/pause"]}
    return archive.settings(image.dockerfile.read_text())


def _fill_python(root: Path) -> None:
    rootfs.add_programs(root, SHELL)
    rootfs.add_python(root)
    _steps("python", root)


def _fill_go(root: Path) -> None:
    rootfs.add_programs(root, SHELL)
    _steps("go", root)


def _fill_cluster(root: Path) -> None:
    for name in _CLUSTER_PROGRAMS:
        target = root / "usr" / "bin" / name
        target.write_bytes(tool(name).read_bytes())
        target.chmod(0o755)


def _steps(name: str, root: Path) -> None:
    """Run the steps that the image's Dockerfile runs, with our own Python first on PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", str(_IMAGES / name / "steps.sh"), str(ROOT), str(root)],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        told = ended.stderr.strip()[-2000:]
        raise ImageFailed(f"the steps of {name} ended with {ended.returncode}: {told}")


def python_contents() -> list[Path]:
    """The files of this repository that the Python image holds, as its steps choose them."""
    found: list[Path] = []
    for part in (_IMAGES / "python" / "contents").read_text().split():
        path = ROOT / part
        if not path.exists():
            raise ImageFailed(f"deploy/images/python/contents names {part}, which is not there")
        found += [path] if path.is_file() else [file for file in path.rglob("*") if _is_code(file)]
    return found


def _is_code(path: Path) -> bool:
    return path.is_file() and (path.suffix == ".py" or "schema" in path.parts)


def _python_sources() -> list[Path]:
    return [*python_contents(), *(path for path in (_IMAGES / "python").iterdir() if path.is_file())]


def _go_sources() -> list[Path]:
    scripts = [path for path in (ROOT / "deploy" / "devnet" / "ccaas").rglob("*") if path.is_file()]
    return [*map(tool, _GO_PROGRAMS), *scripts, *(_IMAGES / "go").iterdir()]


PYTHON = Image(
    "python",
    "local.test/cbmdhi-python:1",
    _IMAGES / "python" / "Dockerfile",
    _fill_python,
    _python_sources,
)
GO = Image("go", "local.test/cbmdhi-go:1", _IMAGES / "go" / "Dockerfile", _fill_go, _go_sources)
CLUSTER = Image(
    "kubernetes", node_config.IMAGE, None, _fill_cluster, lambda: list(map(tool, _CLUSTER_PROGRAMS))
)
ALL = (CLUSTER, GO, PYTHON)
