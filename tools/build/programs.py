"""Steps that make a program: Go modules of deploy/toolchain, Kubernetes, `pause`, the chaincode."""

import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import fingerprint
from .commands import Commands
from .errors import BuildError
from .requirements import Machine
from .steps import Step

# Version-control state is left out: the same sources give the same binary in every clone.
GO_FLAGS = ("-buildvcs=false",)
KUBERNETES = "v1.36.3"


class Programs:
    """Put into `bin`, which is `.tools/bin` of the checkout at `root`."""

    def __init__(self, root: Path, machine: Machine, commands: Commands) -> None:
        self.root = root
        self.bin = root / ".tools" / "bin"
        self._machine = machine
        self._commands = commands

    def tool(
        self,
        module: str,
        title: str,
        programs: list[str],
        expected_seconds: float,
        version: str = "",
        tags: str = "",
        packages: tuple[str, ...] = ("tool",),
        mended: bool = False,
    ) -> Step:
        """A pinned tool module of deploy/toolchain: go.sum verifies every byte of it.

        `version`: the variable that a product's own build sets when it is linked, and its value.
        `tags`: build tags.
        `packages`: what is built, by default all `tool`s of go.mod.
        `mended`: built from a copy that the module's `mend` makes of the product.
        """
        folder = self.root / "deploy" / "toolchain" / module
        flags = [*GO_FLAGS, *(["-ldflags", f"-X {version}"] if version else [])]
        flags += ["-tags", tags] if tags else []

        def run(log: Path) -> None:
            copy = self._workspace() / f"{module}-mended"
            of_the_copy = [f"-modfile={copy}.mod"] if mended else []
            with tempfile.TemporaryDirectory(dir=self._workspace()) as made:
                if mended:
                    self._commands.run(["go", "run", "./mend", copy], folder, log)
                self._commands.run(
                    ["go", "build", *of_the_copy, *flags, "-o", f"{made}/", *packages], folder, log
                )
                for program in programs:
                    self._put(Path(made) / program)

        return Step(
            name=module,
            title=title,
            expected_seconds=expected_seconds,
            fingerprint=lambda: fingerprint.of(
                self.root,
                [folder / "go.mod", folder / "go.sum", *folder.rglob("*.go"), *folder.rglob("*.go.txt")],
                [self._machine.go, *flags, *programs, *(["mended"] if mended else [])],
            ),
            outputs=lambda: [self.bin / program for program in programs],
            run=run,
        )

    def kubernetes(
        self,
        name: str,
        title: str,
        expected_seconds: float,
        programs: dict[str, str],
        after: tuple[str, ...] = (),
    ) -> Step:
        """Some of the programs of one module: `programs` says of which package each is."""
        folder = self.root / "deploy" / "toolchain" / "kubernetes"
        flags = [*GO_FLAGS, "-ldflags", f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"]

        def run(log: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self._workspace()) as made:
                for program, package in programs.items():
                    output = Path(made) / program
                    self._commands.run(["go", "build", *flags, "-o", output, package], folder, log)
                    self._put(output)

        return Step(
            name=name,
            title=title,
            expected_seconds=expected_seconds,
            fingerprint=lambda: fingerprint.of(
                self.root,
                [folder / "go.mod", folder / "go.sum"],
                [self._machine.go, *flags, *programs.values()],
            ),
            outputs=lambda: [self.bin / program for program in programs],
            run=run,
            after=after,
        )

    def pause(self) -> Step:
        """What holds a pod's namespaces open: a C file of the Kubernetes module."""
        folder = self.root / "deploy" / "toolchain" / "kubernetes"

        def run(log: Path) -> None:
            found = subprocess.run(
                ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            if found.returncode:
                raise BuildError(f"Go does not find the Kubernetes module: {found.stderr.strip()}")
            source = Path(found.stdout.strip()) / "build" / "pause" / "linux" / "pause.c"
            with tempfile.TemporaryDirectory(dir=self._workspace()) as made:
                output = Path(made) / "pause"
                self._commands.run(["cc", "-Os", "-o", output, source], folder, log)
                self._put(output)

        return Step(
            name="pause",
            title="pause",
            expected_seconds=2,
            fingerprint=lambda: fingerprint.of(self.root, [folder / "go.mod", folder / "go.sum"]),
            outputs=lambda: [self.bin / "pause"],
            run=run,
            # Fetches the module.
            after=("kubernetes",),
        )

    def chaincode(self) -> Step:
        folder = self.root / "chaincode"

        def run(log: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self._workspace()) as made:
                program = Path(made) / "cbmdhi-chaincode"
                self._commands.run(["go", "build", *GO_FLAGS, "-o", program, "."], folder, log)
                self._put(program)

        return Step(
            name="chaincode",
            title="Chaincode",
            expected_seconds=25,
            fingerprint=lambda: fingerprint.of(self.root, _go_sources(folder), [self._machine.go, *GO_FLAGS]),
            outputs=lambda: [self.bin / "cbmdhi-chaincode"],
            run=run,
            after=("protos-go",),
        )

    def _workspace(self) -> Path:
        """On the same file system as the programs, so that putting one in place is a rename."""
        workspace = self.root / ".tools" / "work"
        workspace.mkdir(parents=True, exist_ok=True)
        return workspace

    def _put(self, made: Path) -> None:
        """Replace a program in one step; one that runs keeps its own copy."""
        self.bin.mkdir(parents=True, exist_ok=True)
        if not made.exists():
            raise BuildError(
                f"The build did not make {made.name}.", "Is it named in the `tool` part of go.mod?"
            )
        os.replace(made, self.bin / made.name)


def _go_sources(folder: Path) -> Iterable[Path]:
    """What the chaincode binary is made from: Go files (not tests), embedded files, module files."""
    for path in folder.rglob("*"):
        if path.is_file() and "testdata" not in path.parts and not path.name.endswith("_test.go"):
            yield path
