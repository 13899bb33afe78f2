"""What is built, from what, and in which order."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from . import fingerprint
from .commands import Commands
from .engines import Engines
from .errors import BuildError
from .programs import KUBERNETES, Programs
from .requirements import Machine
from .steps import Step

# What ten services import at the same moment when the network is started for the first time.
COMPILED = (
    *("grpc", "google", "fabric_protos", "cryptography", "opentelemetry", "aiohttp", "pydantic"),
    *("pydantic_settings", "nats", "aioipfs", "joserfc", "structlog", "prometheus_client"),
    *("supervisor", "psutil", "typer", "rich"),
)
CHAINCODE_PROTOS = "cbmdhi/command/v1"
# The distributions whose programs and commands are typed. A .pth line makes the others importable, too.
EDITABLE = (".", "ops", "bench")
_COMMANDS = "k8s.io/kubernetes/cmd"
_KUBERNETES_PROGRAMS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    **{name: f"{_COMMANDS}/{name}" for name in ("kubectl", "kube-apiserver", "kube-controller-manager")},
}
_NODE_PROGRAMS = {name: f"{_COMMANDS}/{name}" for name in ("kube-scheduler", "kubelet", "kube-proxy")}


class Plan:
    """The steps of a build of the checkout at `root`."""

    def __init__(self, root: Path, machine: Machine, commands: Commands) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self._machine = machine
        self._commands = commands
        self._go = Programs(root, machine, commands)
        self._packaging = root / "tools" / "packaging"
        self._generate = _module(self._packaging / "generate.py")

    def demo(self) -> list[Step]:
        """What a laptop network runs, the longest first among the steps that can start at once."""
        return [
            self._environment(),
            self._go.tool("kubo", "Kubo 0.43 (IPFS node)", ["ipfs"], 280),
            self._go.tool(
                "fabric",
                "Fabric 3.1.1 (peer, orderer and their tools)",
                ["peer", "orderer", "configtxgen", "configtxlator", "osnadmin"],
                105,
                version="github.com/hyperledger/fabric/common/metadata.Version=v3.1.1+cbmdhi.3",
                # docs/adr/0031
                mended=True,
            ),
            self._go.tool(
                "fabric-ca",
                "Fabric CA 1.5.15",
                ["fabric-ca-server", "fabric-ca-client"],
                105,
                version="github.com/hyperledger/fabric-ca/lib/metadata.Version=1.5.15",
            ),
            self._go.tool("protoc-gen-go", "protoc-gen-go", ["protoc-gen-go"], 10),
            self._package(),
            *self.protos(),
            self._go.chaincode(),
        ]

    def when_used(self) -> list[Step]:
        """What a network does without: each is built when it is first used, all of them for the tests."""
        return [
            self._go.tool("otelcol", "OpenTelemetry Collector 0.162", ["otelcol"], 150, packages=(".",)),
            self._prometheus(),
            self._go.tool("versitygw", "Versity S3 gateway 1.8 (backups to S3)", ["versitygw"], 60),
            self._kustomize(),
        ]

    def _prometheus(self) -> Step:
        return self._go.tool(
            "prometheus",
            "Prometheus 3.13.5 (prometheus, promtool)",
            ["prometheus", "promtool"],
            150,
            # Clouds' ways to find targets: half of what would be compiled.
            tags="remove_all_sd",
        )

    def _kustomize(self) -> Step:
        return self._go.tool("kustomize", "kustomize 5.8.1", ["kustomize"], 25)

    def engines(self) -> list[Step]:
        """The examples in four languages, which the tests run."""
        return Engines(self.root, self.venv, self._machine, self._commands).steps()

    def kubernetes(self) -> list[Step]:
        """A control plane, which `make k8s-test` needs."""
        return [
            self._go.kubernetes(
                "kubernetes",
                f"Kubernetes {KUBERNETES} (API server, controllers, kubectl) and etcd",
                420,
                _KUBERNETES_PROGRAMS,
            ),
            self._kustomize(),
        ]

    def kubernetes_node(self) -> list[Step]:
        """What `make k8s-run` needs besides: a node's programs, what runs on any cluster, and Prometheus."""
        return [
            *self.kubernetes(),
            self._prometheus(),
            self._go.kubernetes(
                "kubernetes-node",
                f"Kubernetes {KUBERNETES} (scheduler, kubelet, proxy)",
                180,
                _NODE_PROGRAMS,
                # Most packages are the same: compiled once, not twice at the same time.
                after=("kubernetes",),
            ),
            self._go.tool(
                "kubernetes-addons",
                "CoreDNS and metrics-server",
                ["coredns", "metrics-server"],
                200,
                packages=("./coredns", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
            ),
            self._go.tool("kube-state-metrics", "kube-state-metrics 2.18", ["kube-state-metrics"], 60),
            self._go.pause(),
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
        projects = [self.root / folder for folder in EDITABLE]
        files = [*(project / "pyproject.toml" for project in projects), *self._packaging.glob("*.py")]
        editable = [part for project in projects for part in ("--editable", project)]
        return Step(
            name="package",
            title="cbmdhi itself (.venv/bin/cbmdhi)",
            expected_seconds=7,
            fingerprint=lambda: fingerprint.of(self.root, files, [str(self.root), self._machine.python]),
            outputs=lambda: [self.venv / "bin" / "cbmdhi"],
            run=lambda log: self._pip(
                log, "install", "--no-deps", "--no-build-isolation", "--quiet", *editable
            ),
            after=("python", "protos-python"),
        )

    def _python_from_protos(self) -> Step:
        program = self._packaging / "generate.py"
        made_from = [*self._proto_files("cbmdhi"), program, self.root / "requirements.lock"]
        return Step(
            name="protos-python",
            title="Python from protos/",
            expected_seconds=3,
            fingerprint=lambda: fingerprint.of(self.root, made_from),
            outputs=lambda: self._generate.outputs(self.root),
            run=lambda log: self._commands.run([self.python, program], self.root, log),
            after=("python",),
        )

    def _go_from_protos(self) -> Step:
        sources = self._proto_files(CHAINCODE_PROTOS)
        plugin = self._go.bin / "protoc-gen-go"
        output = self.root / "chaincode" / "gen"
        names = [path.relative_to(self.root / "protos") for path in sources]

        def run(log: Path) -> None:
            output.mkdir(parents=True, exist_ok=True)
            self._commands.run(
                [
                    *(self.python, "-m", "grpc_tools.protoc", "-I", "protos"),
                    *(f"--plugin=protoc-gen-go={plugin}", f"--go_out={output}"),
                    "--go_opt=module=cbmdhi/chaincode/gen",
                    # In the chaincode's own module, which is packed by itself.
                    *(f"--go_opt=M{name}=cbmdhi/chaincode/gen/commandv1" for name in names),
                    *names,
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


def _module(path: Path) -> Any:
    """The module in a file that is no part of this package: the package has another name while it builds."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BuildError(f"{path} cannot be read.", "Is this a whole checkout?")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
