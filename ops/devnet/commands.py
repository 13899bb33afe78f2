"""Runs the command-line tools of Fabric and Kubo, in an environment of our own."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ops.devnet.errors import CommandFailed
from ops.devnet.layout import Home
from ops.devnet.topology import SERVICES

# What a program may inherit. Not CORE_*, ORDERER_*, FABRIC_*, IPFS_* or proxies: a person's settings for
# another network would change this one. Settings of the services may be given (docs/conventions.md).
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_INHERITED_PREFIXES = ("OTEL_", *(f"CBMDHI_{service.upper()}_" for service in SERVICES))


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every program of the network."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    return {**inherited, **(extra or {})}


def run(
    home: Home,
    argv: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    *,
    seconds: float = 60,
    cwd: Path | None = None,
) -> str:
    """Run a tool to its end; what it wrote to stdout. Its arguments and errors go to logs/setup.log.

    Secrets travel in `env`, never in `argv`.

    Raises:
        CommandFailed: it ended with an error or took longer than `seconds`.
    """
    arguments = [str(argument) for argument in argv]
    shown = " ".join([Path(arguments[0]).name, *arguments[1:]])
    try:
        completed = subprocess.run(
            arguments,
            env=environment(env),
            cwd=cwd or home.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandFailed(f"`{shown}` did not end within {seconds:.0f} s.", _see(home)) from exc
    _record(home, shown, completed)
    if completed.returncode != 0:
        lines = [line for line in completed.stderr.splitlines() if line.strip()][-6:]
        told = "\n".join(f"    {line}" for line in lines)
        raise CommandFailed(f"`{shown}` ended with code {completed.returncode}:\n{told}", _see(home))
    return completed.stdout


def _record(home: Home, shown: str, completed: subprocess.CompletedProcess[str]) -> None:
    home.logs.mkdir(parents=True, exist_ok=True)
    with (home.logs / "setup.log").open("a") as log:
        log.write(f"$ {shown}\n{completed.stderr}[{completed.returncode}]\n")


def _see(home: Home) -> str:
    return f"All commands and what they said are in {home.logs / 'setup.log'}."
