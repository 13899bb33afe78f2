"""What is wrong with this machine or network, and how to mend it."""

import json
import os
import resource
import shlex
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

import psutil
from cryptography import x509

from ops.devnet import health, layout, ports, processes, stale_programs, state, status
from ops.devnet.errors import DevnetError
from ops.devnet.network import Network
from ops.devnet.topology import SERVICES, program_name

_DISK_BAD_BYTES = 1 * 1024**3
_DISK_TIGHT_BYTES = 4 * 1024**3
_MEMORY_TIGHT_BYTES = 1 * 1024**3
_DESCRIPTORS = 4096
_CLOCK_SECONDS = 60
_TAIL_BYTES = 8192
# Where programs keep what they write.
_DATA = ("orgs/*/*", "orgs/*/*/data", "orgs/*/services/*", "orgs/*/services/*/data")
_LONGEST_WORD = 400
_EXPIRY_SOON = timedelta(days=30)


class Grade(Enum):
    """How bad it is. WARN works for now."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mend` says what to do; empty when it is well."""

    check: str
    grade: Grade
    says: str
    mend: str = ""


def examine(network: Network) -> list[Finding]:
    """Look at everything; at most a few seconds. Changes nothing."""
    checks: tuple[Callable[[Network], Iterator[Finding]], ...] = (
        *(_python, _programs_built, _go, _compiler),
        *(_disk, _memory, _descriptors, _clock, _clocks_of_programs),
        *(_state, _supervision, _ports, _certificates, _age_of_programs, _health),
    )
    return [finding for check in checks for finding in check(network)]


def _python(_: Network) -> Iterator[Finding]:
    yield Finding("python", Grade.OK, f"Python {sys.version.split()[0]} ({sys.executable})")


def _programs_built(_: Network) -> Iterator[Finding]:
    missing: list[str] = []
    for name in layout.TOOLS:
        try:
            layout.tool(name)
        except DevnetError:
            missing.append(name)
    if missing:
        yield Finding("programs", Grade.BAD, f"Not built: {', '.join(missing)}", "Run: make build")
        return
    versions = [
        f"Fabric {_word_after(_output([layout.tool('peer'), 'version']), 'Version:')}",
        f"Kubo {_output([layout.tool('ipfs'), 'version', '--number'])}",
        f"NATS {_output([layout.tool('nats-server'), '--version']).rpartition('v')[2]}",
    ]
    yield Finding("programs", Grade.OK, f"All {len(layout.TOOLS)} are built ({', '.join(versions)})")


def _go(_: Network) -> Iterator[Finding]:
    found = _output(["go", "env", "GOVERSION"]) if shutil.which("go") else ""
    if not found:
        yield Finding(
            "go",
            Grade.WARN,
            "Go is not on PATH: nothing can be rebuilt",
            "Install Go 1.26 or newer: go.dev/doc/install",
        )
    else:
        yield Finding("go", Grade.OK, found)


def _compiler(_: Network) -> Iterator[Finding]:
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        yield Finding(
            "compiler", Grade.WARN, "No C compiler: Fabric CA cannot be rebuilt", "Install gcc or clang"
        )
    else:
        yield Finding("compiler", Grade.OK, f"{compiler} ({shutil.which(compiler)})")


def _disk(network: Network) -> Iterator[Finding]:
    home = next(path for path in (network.home, *network.home.parents) if path.exists())
    for folder in _disks(home):
        free = shutil.disk_usage(folder).free
        says = f"{free / 1024**3:.1f} GiB free at {folder}"
        sizes = f"du -sh {shlex.quote(str(network.home))} {shlex.quote(str(layout.ROOT / '.tools'))}"
        clean = network.files.command("clean")
        mend = f"Make room; `{clean}` forgets the network's state ({sizes} shows their sizes)"
        if free < _DISK_BAD_BYTES:
            yield Finding("disk", Grade.BAD, says, mend)
        elif free < _DISK_TIGHT_BYTES:
            yield Finding("disk", Grade.WARN, says, mend)
        else:
            yield Finding("disk", Grade.OK, says)


def _disks(home: Path) -> Iterator[Path]:
    """The network's folder, and every folder of a program that lies on another disk."""
    known = {home.stat().st_dev}
    yield home
    for folder in sorted(path for pattern in _DATA for path in home.glob(pattern)):
        if folder.is_dir() and (device := folder.stat().st_dev) not in known:
            known.add(device)
            yield folder


def _memory(_: Network) -> Iterator[Finding]:
    available = psutil.virtual_memory().available
    says = f"{available / 1024**3:.1f} GiB available"
    if available < _MEMORY_TIGHT_BYTES:
        yield Finding("memory", Grade.WARN, says, "The network takes about 2 GiB: end something else")
    else:
        yield Finding("memory", Grade.OK, says)


def _descriptors(_: Network) -> Iterator[Finding]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        yield Finding(
            "open files",
            Grade.BAD,
            f"This user may open {hard} files; Kubo and the peers want {_DESCRIPTORS}",
            f"Raise the hard limit: ulimit -Hn {_DESCRIPTORS} as root, or /etc/security/limits.conf",
        )
    else:
        yield Finding("open files", Grade.OK, f"limit {'none' if hard == resource.RLIM_INFINITY else hard}")


def _clock(network: Network) -> Iterator[Finding]:
    now = datetime.now(UTC)
    newest = max((path.stat().st_mtime for path in network.files.logs.glob("*.log")), default=0.0)
    ahead = newest - time.time()
    if ahead > 60:
        yield Finding(
            "clock",
            Grade.BAD,
            f"It is {now:%Y-%m-%d %H:%M} UTC, but logs were written {ahead / 60:.0f} minutes later: "
            "the clock was set back",
            "Set the clock (timedatectl set-ntp true). Fabric refuses what is more than 15 minutes off",
        )
    else:
        yield Finding("clock", Grade.OK, f"{now:%Y-%m-%d %H:%M} UTC, not behind what was already written")


def _clocks_of_programs(network: Network) -> Iterator[Finding]:
    """Programs whose clock is another than this one's: on other machines, or under another's time."""
    if not network.supervisor.alive():
        return
    at = network.ports()
    addresses: dict[str, tuple[str, ssl.SSLContext | None]] = {
        program_name(org, service): (at.address(org, f"{service}_metrics"), None)
        for org in network.files.members
        for service in SERVICES
    }
    for org in network.files.members:
        addresses[program_name(org, "peer")] = (at.address(org, "peer_operations"), health.ANYONE)
    for org in network.files.orderers:
        addresses[program_name(org, "orderer")] = (at.address(org, "orderer_operations"), health.ANYONE)
    for name, (address, tls) in addresses.items():
        theirs = health.date(address, tls)
        ahead = 0.0 if theirs is None else theirs - time.time()
        if abs(ahead) > _CLOCK_SECONDS:
            yield Finding(
                "clock",
                Grade.BAD,
                f"The clock of {name} is {abs(ahead) / 60:.0f} minutes {'ahead' if ahead > 0 else 'behind'}",
                f"Set its machine's clock (timedatectl set-ntp true), then: {network.files.command('up')}",
            )


def _state(network: Network) -> Iterator[Finding]:
    try:
        found = state.read(network.files)
    except DevnetError as exc:
        yield Finding("state", Grade.BAD, exc.problem, exc.remedy)
        return
    if found is None:
        yield Finding("state", Grade.WARN, f"There is no network at {network.home}", _run_up(network))
    elif not found.complete:
        yield Finding(
            "state", Grade.BAD, "The first start was interrupted", f"{_run_up(network)} (it starts afresh)"
        )
    else:
        yield Finding("state", Grade.OK, f"{network.home}, ports from {found.base_port}")


def _supervision(network: Network) -> Iterator[Finding]:
    ours = processes.of_network(network.home)
    strays = sum(len(found) for name, found in ours.items() if name != processes.SUPERVISOR)
    if network.supervisor.alive():
        yield Finding("supervisor", Grade.OK, f"answers (process {network.supervisor.pid()})")
    elif processes.SUPERVISOR in ours:
        yield Finding(
            "supervisor",
            Grade.BAD,
            "lives but does not answer",
            f"{_run_up(network)} (it is ended and started anew)",
        )
    elif strays:
        yield Finding(
            "supervisor",
            Grade.BAD,
            f"is gone, and {strays} programs run without it",
            f"{_run_up(network)} (they are started anew)",
        )
    elif network.exists():
        stale = (
            " (a stale socket or pid file is left; harmless)" if network.supervisor.pid_file.exists() else ""
        )
        yield Finding("supervisor", Grade.WARN, f"The network is down{stale}", _run_up(network))


def _ports(network: Network) -> Iterator[Finding]:
    if not network.exists() or network.supervisor.alive() or processes.of_network(network.home):
        return
    at = network.ports()
    try:
        ports.require_free(network.home, at)
    except DevnetError as exc:
        yield Finding("ports", Grade.BAD, exc.problem, exc.remedy)
    else:
        yield Finding("ports", Grade.OK, f"{at.base} and the {len(at.all()) - 1} others are free")


def _certificates(network: Network) -> Iterator[Finding]:
    expiring = sorted((_expiry(path), path) for path in _certificate_files(network.home / "orgs"))
    if not expiring:
        return
    first, path = expiring[0]
    left = first - datetime.now(UTC)
    says = f"{len(expiring)} certificates; the first, {path.relative_to(network.home)}, ends {first:%Y-%m-%d}"
    if left < timedelta(0):
        mend = f"It has ended. Make the network anew: {state.anew(network.files)}"
        yield Finding("certificates", Grade.BAD, says, mend)
    elif left < _EXPIRY_SOON:
        mend = f"Make the network anew before that: {state.anew(network.files)}"
        yield Finding("certificates", Grade.WARN, says, mend)
    else:
        yield Finding("certificates", Grade.OK, says)


def _certificate_files(orgs: Path) -> Iterator[Path]:
    for pattern in ("*/ca/*/*-cert.pem", "*/*/tls/server.crt", "*/services/*/tls/server.crt"):
        yield from orgs.glob(pattern)
    for pattern in (
        "*/*/msp/signcerts/*.pem",
        "*/ca/registrar/cert.pem",
        "*/services/*/*/certificate.pem",
    ):
        yield from orgs.glob(pattern)


def _expiry(path: Path) -> datetime:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except ValueError:
        # Damaged: as bad as one that has ended.
        return datetime.fromtimestamp(0, UTC)


def _age_of_programs(network: Network) -> Iterator[Finding]:
    if not network.supervisor.alive():
        return
    old = stale_programs.outdated(network.supervisor.states())
    if old:
        yield Finding(
            "age",
            Grade.WARN,
            f"Changed since they were started: {', '.join(old)}",
            f"{_run_up(network)} (restarts them)",
        )


def _health(network: Network) -> Iterator[Finding]:
    if not network.supervisor.alive():
        return
    found = status.of(network)
    for program in found.programs:
        if not program.healthy:
            yield Finding(
                program.name,
                Grade.BAD,
                f"is {program.state}: {program.reason}{_last_word(network.files.log(program.name))}",
                f"{_run_up(network)} (starts or restarts it). Its log: {network.files.log(program.name)}",
            )
    told = {f"{program.name} is" for program in found.programs}
    for problem in found.problems:
        if not any(problem.startswith(beginning) for beginning in told):
            again = f"{network.files.command('down')}, then {network.files.command('up')}"
            yield Finding("network", Grade.BAD, problem, f"Often passes within seconds; if not: {again}")
    if found.green:
        yield Finding("network", Grade.OK, f"all {len(found.programs)} programs are ready and keep up")


def _run_up(network: Network) -> str:
    return f"Run: {network.files.command('up')}"


def _last_word(log: Path) -> str:
    """Why a service ended, in its own words: the last sentence of its log, if that is one."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(log.stat().st_size - _TAIL_BYTES, 0))
        lines = stream.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        try:
            said = json.loads(line)
        except ValueError:
            # A configuration that is wrong is said before there is a log: in plain sentences.
            return f". It says: {line.strip()[:_LONGEST_WORD]}" if line.strip() else ""
        if isinstance(said, dict) and said.get("event") in ("service.failed", "task.failed"):
            return f". It says: {str(said.get('reason'))[:_LONGEST_WORD]}"
        if not (isinstance(said, dict) and said.get("event") == "service.stopped"):
            return ""
    return ""


def _output(argv: list[str | Path]) -> str:
    completed = subprocess.run(
        [str(part) for part in argv],
        cwd=layout.ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return completed.stdout.strip()


def _word_after(text: str, word: str) -> str:
    return text.partition(word)[2].split()[0] if word in text else "?"
