"""What is built, from what, and in which order."""

import os
import shutil
import subprocess
import sys
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
# What ten services import at the same moment when the network is started for the first time.
COMPILED = (
    *("grpc", "google", "fabric_protos", "cryptography", "opentelemetry", "aiohttp", "pydantic"),
    *("pydantic_settings", "nats", "aioipfs", "joserfc", "structlog", "prometheus_client"),
    *("supervisor", "psutil", "typer", "rich"),
)
CHAINCODE_PROTOS = "cbmdhi/command/v1"
KUBERNETES = "v1.36.3"
_COMMANDS = "k8s.io/kubernetes/cmd"
KUBERNETES_PROGRAMS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    **{name: f"{_COMMANDS}/{name}" for name in ("kubectl", "kube-apiserver", "kube-controller-manager")},
}
NODE_PROGRAMS = {name: f"{_COMMANDS}/{name}" for name in ("kube-scheduler", "kubelet", "kube-proxy")}


class Plan:
    """The steps of a build of the checkout at `root`."""

    def __init__(self, root: Path, machine: Machine, commands: Commands) -> None:
        self.root = root
        self.bin = root / ".tools" / "bin"
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self._machine = machine
        self._commands = commands

    def everything(self) -> list[Step]:
        """All steps, the longest first among those that can start at once."""
        return [
            self._environment(),
            self._go_tool("kubo", "Kubo 0.43 (IPFS node)", ["ipfs"], 280),
            self._go_tool(
                "fabric",
                "Fabric 3.1.1 (peer, orderer and their tools)",
                ["peer", "orderer", "configtxgen", "configtxlator", "osnadmin"],
                105,
                version="github.com/hyperledger/fabric/common/metadata.Version=v3.1.1",
            ),
            self._go_tool(
                "fabric-ca",
                "Fabric CA 1.5.15",
                ["fabric-ca-server", "fabric-ca-client"],
                105,
                version="github.com/hyperledger/fabric-ca/lib/metadata.Version=1.5.15",
            ),
            self._go_tool("versitygw", "Versity S3 gateway 1.8 (tests of backups to S3)", ["versitygw"], 60),
            self._go_tool("otelcol", "OpenTelemetry Collector 0.162", ["otelcol"], 150, packages=(".",)),
            self._go_tool("protoc-gen-go", "protoc-gen-go", ["protoc-gen-go"], 10),
            self._go_tool("kustomize", "kustomize 5.8.1", ["kustomize"], 25),
            self._package(),
            *self.protos(),
            self._chaincode(),
        ]

    def observability(self) -> list[Step]:
        """What `make observe` and the tests need beside `everything`."""
        return [
            self._go_tool(
                "prometheus",
                "Prometheus 3.13.5 (prometheus, promtool)",
                ["prometheus", "promtool"],
                150,
                # Clouds' ways to find targets: half of what would be compiled.
                tags="remove_all_sd",
            )
        ]

    def kubernetes(self) -> list[Step]:
        """A control plane, which `make k8s-test` needs."""
        return [
            self._kubernetes(
                "kubernetes",
                f"Kubernetes {KUBERNETES} (API server, controllers, kubectl) and etcd",
                420,
                KUBERNETES_PROGRAMS,
            )
        ]

    def kubernetes_node(self) -> list[Step]:
        """What `make k8s-run` needs besides: a node's programs, what runs on any cluster, and Prometheus."""
        return [
            *self.kubernetes(),
            *self.observability(),
            self._kubernetes(
                "kubernetes-node",
                f"Kubernetes {KUBERNETES} (scheduler, kubelet, proxy)",
                180,
                NODE_PROGRAMS,
                # Most packages are the same: compiled once, not twice at the same time.
                after=("kubernetes",),
            ),
            self._go_tool(
                "kubernetes-addons",
                "CoreDNS and metrics-server",
                ["coredns", "metrics-server"],
                200,
                packages=("./coredns", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
            ),
            self._go_tool("kube-state-metrics", "kube-state-metrics 2.18", ["kube-state-metrics"], 60),
            self._pause(),
        ]

    def protos(self) -> list[Step]:
        """Only the steps that generate code."""
        return [self._python_from_protos(), self._go_from_protos()]

    def _environment(self) -> Step:
        lock = self.root / "requirements.lock"

        def run(log: Path) -> None:
            if not self._environment_matches():
                self._make_environment(log)
            # pip would compile everything, most of which is never imported, one file after the other.
            self._pip(log, "install", "--no-compile", "--require-hashes", "--requirement", lock)
            [libraries] = self.venv.glob("lib/python*/site-packages")
            self._commands.run(
                [self.python, "-m", "compileall", "-q", "-j", "0", *(libraries / name for name in COMPILED)],
                self.root,
                log,
            )

        return Step(
            name="python",
            title="Python packages from requirements.lock (.venv)",
            expected_seconds=60,
            fingerprint=lambda: fingerprint.of(self.root, [lock], [self._machine.python, sys.base_prefix]),
            outputs=lambda: [
                self.python,
                self.venv / "bin" / "nats-server",
                self.venv / "bin" / "supervisord",
            ],
            run=run,
        )

    def _environment_matches(self) -> bool:
        if not self.python.exists():
            return False
        program = "import sys; print('%d.%d' % sys.version_info[:2], sys.base_prefix)"
        found = subprocess.run([str(self.python), "-c", program], capture_output=True, text=True, check=False)
        return found.returncode == 0 and found.stdout.strip() == f"{self._machine.python} {sys.base_prefix}"

    def _make_environment(self, log: Path) -> None:
        if self.venv.exists():
            shutil.rmtree(self.venv)
        try:
            self._commands.run([sys.executable, "-m", "venv", self.venv], self.root, log)
        except BuildError as exc:
            raise BuildError(
                f"Python's venv module does not work here: {exc.problem}",
                "Debian and Ubuntu keep it in a package of its own: apt install python3-venv",
            ) from exc

    def _package(self) -> Step:
        project = self.root / "pyproject.toml"
        return Step(
            name="package",
            title="cbmdhi itself (.venv/bin/cbmdhi)",
            expected_seconds=4,
            fingerprint=lambda: fingerprint.of(self.root, [project], [str(self.root), self._machine.python]),
            outputs=lambda: [self.venv / "bin" / "cbmdhi"],
            run=lambda log: self._pip(
                log, "install", "--no-deps", "--no-build-isolation", "--quiet", "--editable", self.root
            ),
            after=("python",),
        )

    def _python_from_protos(self) -> Step:
        sources = self._proto_files("cbmdhi")

        def run(log: Path) -> None:
            self._forget_generated(set(self._generated_python()))
            self._commands.run(
                [
                    *(self.python, "-m", "grpc_tools.protoc", "-I", "protos"),
                    *("--python_out=.", "--pyi_out=.", "--grpc_python_out=."),
                    *[path.relative_to(self.root / "protos") for path in sources],
                ],
                self.root,
                log,
            )

        return Step(
            name="protos-python",
            title="Python from protos/",
            expected_seconds=3,
            fingerprint=lambda: fingerprint.of(self.root, [*sources, self.root / "requirements.lock"]),
            outputs=self._generated_python,
            run=run,
            after=("python",),
        )

    def _generated_python(self) -> list[Path]:
        """Where the generated modules lie: beside the SDK, in the folder of their proto package."""
        relative = [path.relative_to(self.root / "protos") for path in self._proto_files("cbmdhi")]
        return [
            self.root / path.with_name(path.stem + suffix)
            for path in relative
            for suffix in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
        ]

    def _forget_generated(self, wanted: set[Path]) -> None:
        """Remove what was generated from protos that are no longer there."""
        for pattern in ("*/v1/*_pb2.py", "*/v1/*_pb2.pyi", "*/v1/*_pb2_grpc.py"):
            for path in (self.root / "cbmdhi").glob(pattern):
                if path not in wanted:
                    path.unlink()

    def _go_from_protos(self) -> Step:
        sources = self._proto_files(CHAINCODE_PROTOS)
        plugin = self.bin / "protoc-gen-go"
        output = self.root / "chaincode" / "gen"

        def run(log: Path) -> None:
            output.mkdir(parents=True, exist_ok=True)
            self._commands.run(
                [
                    *(self.python, "-m", "grpc_tools.protoc", "-I", "protos"),
                    *(f"--plugin=protoc-gen-go={plugin}", f"--go_out={output}"),
                    "--go_opt=module=cbmdhi/chaincode/gen",
                    *[path.relative_to(self.root / "protos") for path in sources],
                ],
                self.root,
                log,
            )

        return Step(
            name="protos-go",
            title="Go from protos/ for the chaincode",
            expected_seconds=2,
            fingerprint=lambda: fingerprint.of(
                self.root, [*sources, self.root / "deploy" / "toolchain" / "protoc-gen-go" / "go.mod"]
            ),
            outputs=lambda: [output / "commandv1" / f"{path.stem}.pb.go" for path in sources],
            run=run,
            after=("python", "protoc-gen-go"),
        )

    def _go_tool(
        self,
        module: str,
        title: str,
        programs: list[str],
        expected_seconds: float,
        version: str = "",
        tags: str = "",
        packages: tuple[str, ...] = ("tool",),
    ) -> Step:
        """A pinned tool module of deploy/toolchain: go.sum verifies every byte of it.

        `version`: the variable that a product's own build sets when it is linked, and its value.
        `tags`: build tags.
        `packages`: what is built, by default all `tool`s of go.mod.
        """
        folder = self.root / "deploy" / "toolchain" / module
        flags = [*GO_FLAGS, *(["-ldflags", f"-X {version}"] if version else [])]
        flags += ["-tags", tags] if tags else []

        def run(log: Path) -> None:
            with tempfile.TemporaryDirectory(dir=self._workspace()) as made:
                self._commands.run(["go", "build", *flags, "-o", f"{made}/", *packages], folder, log)
                for program in programs:
                    self._put(Path(made) / program)

        return Step(
            name=module,
            title=title,
            expected_seconds=expected_seconds,
            fingerprint=lambda: fingerprint.of(
                self.root,
                [folder / "go.mod", folder / "go.sum", *folder.rglob("*.go")],
                [self._machine.go, *flags, *programs],
            ),
            outputs=lambda: [self.bin / program for program in programs],
            run=run,
        )

    def _kubernetes(
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

    def _pause(self) -> Step:
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

    def _chaincode(self) -> Step:
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

    def _pip(self, log: Path, *arguments: str | Path) -> None:
        self._commands.run(
            [self.python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
            self.root,
            log,
        )

    def _proto_files(self, under: str) -> list[Path]:
        files = sorted((self.root / "protos" / under).rglob("*.proto"))
        if not files:
            raise BuildError(f"No .proto files under protos/{under}.", "Is this a whole checkout?")
        return files


def _go_sources(folder: Path) -> Iterable[Path]:
    """What the chaincode binary is made from: Go files (not tests), embedded files, module files."""
    for path in folder.rglob("*"):
        if path.is_file() and "testdata" not in path.parts and not path.name.endswith("_test.go"):
            yield path
