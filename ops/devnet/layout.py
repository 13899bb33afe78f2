"""Where everything of a network lies on the disk (docs/conventions.md, "The laptop network")."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cbmdhi.cli.home import command_for, default_home
from ops.devnet import topology
from ops.devnet.errors import DevnetError, ToolMissing
from ops.devnet.topology import MEMBERS

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_POLICY = ROOT / "deploy" / "chaincode" / "policies" / "default.cedar"

# Signs that one of the configuration formats (supervisord's ini) cannot carry in a path.
_FORBIDDEN_IN_PATHS = "\"';,\n\r"


@dataclass(frozen=True)
class Organisation:
    """The folders of one organisation."""

    root: Path
    name: str

    @property
    def ca(self) -> Path:
        """fabric-ca-server: `ca/` and `tlsca/` below it."""
        return self.root / "ca"

    @property
    def ca_certificate(self) -> Path:
        """Root of the CA for identities."""
        return self.ca / "ca" / "ca-cert.pem"

    @property
    def tls_ca_certificate(self) -> Path:
        """Root of the CA for TLS."""
        return self.ca / "tlsca" / "ca-cert.pem"

    @property
    def bootstrap_secret(self) -> Path:
        """Secret of the identity that registers the organisation's own programs."""
        return self.ca / "bootstrap-secret"

    @property
    def registrar(self) -> Path:
        """cert.pem and key.pem (the names that fabric-ca-client looks for) of the registrar."""
        return self.ca / "registrar"

    @property
    def admin(self) -> Path:
        """`msp/` and `tls/` of the Fabric administrator."""
        return self.root / "admin"

    @property
    def monitoring(self) -> Path:
        """`tls/` of who reads the metrics of peers and orderers."""
        return self.root / "monitoring"

    @property
    def peer(self) -> Path:
        """The peer: core.yaml, msp, tls, data."""
        return self.root / "peer"

    @property
    def orderer(self) -> Path:
        """The orderer: orderer.yaml, msp, tls, data."""
        return self.root / "orderer"

    @property
    def orderer_data(self) -> Path:
        """What an orderer has agreed to: its blocks, and its votes and log (Raft)."""
        return self.orderer / "data"

    @property
    def chaincode(self) -> Path:
        """The chaincode server: tls, package."""
        return self.root / "chaincode"

    @property
    def ipfs(self) -> Path:
        """The Kubo repository."""
        return self.root / "ipfs"

    @property
    def nats(self) -> Path:
        """NATS: nats.conf, tls, JetStream."""
        return self.root / "nats"

    @property
    def collector(self) -> Path:
        """The OpenTelemetry Collector: otelcol.yaml and what it received."""
        return self.root / "otelcol"

    def service(self, name: str) -> Path:
        """A service: config.toml, tls, data."""
        return self.root / "services" / name


@dataclass(frozen=True)
class Home:
    """The folder that holds all state of one network, and who its members are."""

    path: Path
    members: tuple[str, ...] = MEMBERS
    # The organisations that run an orderer.
    orderers: tuple[str, ...] = topology.orderers()

    @property
    def organisations(self) -> tuple[str, ...]:
        """The members and the ordering organisation."""
        return topology.organisations(self.members)

    @property
    def state_file(self) -> Path:
        """Version, ports and progress of the network: what marks a folder as one."""
        return self.path / "network.json"

    @property
    def lock_file(self) -> Path:
        """Held while the network is being started, stopped or changed."""
        return self.path / ".lock"

    @property
    def endpoints_file(self) -> Path:
        """Every address, key file and process id."""
        return self.path / "endpoints.json"

    @property
    def consortium_file(self) -> Path:
        """What a wallet pins: members and their roots."""
        return self.path / "consortium.json"

    @property
    def traced_file(self) -> Path:
        """There while the network is traced."""
        return self.path / "traced"

    @property
    def traced(self) -> bool:
        """True when every program exports its spans to its member's collector."""
        return self.traced_file.exists()

    @property
    def logs(self) -> Path:
        """One log for each program, and setup.log."""
        return self.path / "logs"

    @property
    def supervisor(self) -> Path:
        """supervisord's files."""
        return self.path / "supervisor"

    @property
    def channel(self) -> Path:
        """Genesis block, and the chaincode's genesis."""
        return self.path / "channel"

    @property
    def chaincode_genesis(self) -> Path:
        """The serialized Genesis that every member agreed to."""
        return self.channel / "chaincode-genesis.pb"

    def organisation(self, name: str) -> Organisation:
        """Folders of an organisation."""
        return Organisation(self.path / "orgs" / name, name)

    def command(self, *words: str) -> str:
        """What a person types to have something done to this network, such as `up`."""
        return command_for(self.path, *words)

    def log(self, program: str) -> Path:
        """The log of a program."""
        return self.logs / f"{program}.log"


def home_at(path: Path | None) -> Home:
    """The network's home: `path`, else CBMDHI_HOME, else `.devnet` of the checkout.

    Raises:
        DevnetError: the path holds a sign that a configuration file cannot carry.
    """
    chosen = path or Path(os.environ.get("CBMDHI_HOME") or default_home())
    resolved = chosen.expanduser().resolve()
    found = sorted({sign for sign in str(resolved) if sign in _FORBIDDEN_IN_PATHS})
    if found:
        raise DevnetError(
            f"The path {resolved} holds {' '.join(map(repr, found))}, "
            "which supervisord's configuration cannot carry.",
            "Choose another folder with --home or CBMDHI_HOME.",
        )
    return Home(resolved, _members_of(resolved))


def _members_of(home: Path) -> tuple[str, ...]:
    """Whom a network that was made has as members; the usual two where none was.

    `state.read` says what is wrong with a file that cannot be read.
    """
    try:
        count = int(json.loads((home / "network.json").read_text())["members"])
    except (OSError, ValueError, KeyError, TypeError):
        return MEMBERS
    return topology.POSSIBLE_MEMBERS[:count]


def tool(name: str) -> Path:
    """A program that the build makes. What a network does without is built when it is first asked for, which
    takes a minute or three and is told on standard error.

    Raises:
        ToolMissing: it is not there.
    """
    path = Path(sys.executable).parent / name if name in _PYTHON_TOOLS else ROOT / ".tools" / "bin" / name
    if not path.exists() and name in _BUILT_WHEN_USED:
        build = [sys.executable, str(ROOT / "tools" / "build" / "run.py"), "tool", _BUILT_WHEN_USED[name]]
        subprocess.run(build, check=False)
    if not path.exists():
        raise ToolMissing(f"{name} is not built ({path} is missing).", "Run: make build")
    return path


_PYTHON_TOOLS = ("nats-server", "supervisord")
TOOLS = (
    *("fabric-ca-server", "fabric-ca-client"),
    *("peer", "orderer", "configtxgen", "osnadmin"),
    *("ipfs", "cbmdhi-chaincode"),
    *_PYTHON_TOOLS,
)
# And the module of deploy/toolchain that each is of.
_BUILT_WHEN_USED = {
    "otelcol": "otelcol",
    "versitygw": "versitygw",
    "kustomize": "kustomize",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
