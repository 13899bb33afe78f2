"""What others install: the distributions, and clean environments to install them in, on each Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.build import dist

ROOT = Path(__file__).resolve().parents[2]
OLDEST = 11
# Of Python 3; the newest that is on this machine is taken.
NEWEST_LOOKED_FOR = 15


@dataclass(frozen=True)
class Source:
    """What pip is told to install. `path`: a folder or a file."""

    name: str
    path: Path


@dataclass
class Environment:
    """A virtual environment with nothing in it, and a folder outside of every checkout to work in.

    Neither Go nor anything else of this machine is on PATH but git, which reads a clone's version.
    """

    python: Path
    folder: Path
    variables: dict[str, str]

    def run(self, *argv: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run something here; a program's name is that of one installed here."""
        program = self.python.parent / argv[0]
        return subprocess.run(
            [str(program), *map(str, argv[1:])],
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def done(self, *argv: str | Path, timeout: float = 120) -> str:
        """As `run`; what was printed. Fails the test when it ended with an error."""
        ended = self.run(*argv, timeout=timeout)
        assert ended.returncode == 0, f"{' '.join(map(str, argv))}:\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout


def _interpreters() -> dict[int, str]:
    """Python 3's minor version -> an interpreter of it that can make environments."""
    found: dict[int, str] = {}
    for minor in range(OLDEST, NEWEST_LOOKED_FOR + 1):
        places = [
            *([sys.executable] if sys.version_info[:2] == (3, minor) else []),
            *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"),
            shutil.which(f"python3.{minor}") or "",
        ]
        for place in filter(None, map(str, places)):
            told = [
                place,
                "-c",
                f"import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (3, {minor}))",
            ]
            if subprocess.run(told, capture_output=True, check=False).returncode == 0:
                found[minor] = place
                break
    return found


INTERPRETERS = _interpreters()
# The oldest that is supported, and the newest there is.
MINORS = sorted({min(INTERPRETERS), max(INTERPRETERS)})


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of what is here, in which nothing was generated; changes of tracked files included."""
    folder = tmp_path_factory.mktemp("clone") / "cbmdhi"
    changed = _git(ROOT, "stash", "create") or _git(ROOT, "rev-parse", "HEAD")
    _git(ROOT, "clone", "--quiet", "--no-checkout", str(ROOT), str(folder))
    _git(folder, "checkout", "--quiet", "--detach", changed)
    assert not list(folder.rglob("*_pb2.py"))
    return folder


@pytest.fixture(scope="session")
def distributions(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What `make dist` builds, of a clone of its own."""
    own = tmp_path_factory.mktemp("dist")
    shutil.copytree(clone, own / "clone")
    return dist.build(own / "clone", own / "dist")


@pytest.fixture(scope="session")
def sources(clone: Path, distributions: list[Path]) -> dict[str, Path]:
    """The three ways to the SDK."""
    sdk = [path for path in distributions if path.name.startswith("cbmdhi-")]
    [wheel], [archive] = ([path for path in sdk if path.suffix == suffix] for suffix in (".whl", ".gz"))
    return {"clone": clone, "wheel": wheel, "sdist": archive}


@pytest.fixture(scope="session", params=MINORS, ids=[f"py3.{minor}" for minor in MINORS])
def minor(request: pytest.FixtureRequest) -> int:
    """Which Python 3."""
    return request.param


@pytest.fixture(scope="session")
def wheels(minor: int, sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whatever pip fetches for the SDK and to build it, fetched once for all environments of one Python."""
    house = tmp_path_factory.mktemp(f"wheels-{minor}")
    environment = _environment(minor, house / "fetching", {})
    for wanted in ([f"{sources['wheel']}[cli]"], build_requirements()):
        environment.done("pip", "download", "--quiet", "--dest", house, *wanted, timeout=400)
    return house


@pytest.fixture
def clean(minor: int, wheels: Path, tmp_path: Path) -> Environment:
    """An environment with nothing in it, that reaches no index."""
    return _environment(minor, tmp_path, {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)})


def build_requirements() -> Sequence[str]:
    """What builds the SDK from a clone, as its pyproject.toml and its backend say."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    backend: dict[str, object] = {}
    line = next(
        line
        for line in (ROOT / "tools/packaging/backend.py").read_text().splitlines()
        if line.startswith("GENERATOR = ")
    )
    exec(line, backend)  # noqa: S102 - our own line
    return [*project["build-system"]["requires"], str(backend["GENERATOR"])]


def _environment(minor: int, folder: Path, more: dict[str, str]) -> Environment:
    path = folder / "path"
    path.mkdir(parents=True)
    (path / "git").symlink_to(shutil.which("git") or "git")
    subprocess.run([INTERPRETERS[minor], "-m", "venv", folder / "venv"], check=True)
    work = folder / "work"
    work.mkdir()
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LC_"))}
    home = folder / "home"
    home.mkdir()
    variables = {**kept, "HOME": str(home), "PATH": f"{folder / 'venv/bin'}:{path}", **more}
    return Environment(folder / "venv" / "bin" / "python", work, variables)


def _git(folder: Path, *argv: str) -> str:
    return subprocess.run(
        ["git", "-C", folder, *argv], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture(scope="session")
def installed(
    minor: int, wheels: Path, sources: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment in which the SDK's wheel is installed, with its command line."""
    environment = _environment(
        minor,
        tmp_path_factory.mktemp(f"installed-{minor}"),
        {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)},
    )
    environment.done("pip", "install", "--quiet", f"{sources['wheel']}[cli]")
    return environment
