"""Chooses the network's block of ports once, and says who has taken one later."""

import json
import os
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

from ops.devnet.errors import DevnetError, PortTaken
from ops.devnet.layout import command_for
from ops.devnet.processes import HOME_MARK
from ops.devnet.topology import BLOCK, MEMBERS, Ports

# Below the range from which the system gives out ports by itself.
FIRST_BASE = 17400
LAST_BASE = 31900
STEP = 100


def choose(home: Path, base: int | None, members: tuple[str, ...] = MEMBERS) -> Ports:
    """A free block: the one at `base` when given, else the first that nobody listens on or has reserved.

    Raises:
        PortTaken: a port of the block at `base` is taken.
        DevnetError: `base` is not a port, or no block is free.
    """
    if base is not None:
        if not 1024 <= base <= 65535 - BLOCK:
            raise DevnetError(
                f"{base} cannot be the first of {BLOCK} ports.", f"Choose one from 1024 to {65535 - BLOCK}."
            )
        _reserve(home, base)
        otherwise = "or name another first port (--base-port, CBMDHI_BASE_PORT)"
        require_free(home, Ports(base, members), otherwise)
        return Ports(base, members)
    for candidate in range(FIRST_BASE, LAST_BASE, STEP):
        ports = Ports(candidate, members)
        if _reserve(home, candidate) and not taken(ports.all()):
            return ports
    raise DevnetError(
        f"No {BLOCK} neighbouring ports are free between {FIRST_BASE} and {LAST_BASE}.",
        "Name a first port yourself: --base-port or CBMDHI_BASE_PORT.",
    )


def require_free(home: Path, ports: Ports, otherwise: str = "") -> None:
    """Check that nobody listens on any port of the network. `otherwise`: what to do instead of freeing it.

    Raises:
        PortTaken: names the first that is taken, the program that needs it, and who has it if known.
    """
    if not otherwise:
        # The ports are part of the channel.
        clean = command_for(home, "clean")
        otherwise = f"or make the network anew on other ports ({clean}, which forgets its state)"
    all_ports = ports.all()
    for port in taken(all_ports):
        owner, remedy = _owner(port)
        raise PortTaken(
            f"Port {port}, which {all_ports[port]} listens on, is taken by {owner}.",
            f"{remedy}, {otherwise}. Then run `{command_for(home, 'up')}` again.",
        )


def taken(ports: Iterable[int]) -> list[int]:
    """Those of the ports that somebody listens on."""
    return [port for port in ports if not _free(port)]


def _free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as attempt:
        # As a server does: connections that are only fading away do not count.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _owner(port: int) -> tuple[str, str]:
    """Who listens on a port, as far as this user may know, and how to end it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        local = connection.laddr
        if local and local.port == port and connection.status == psutil.CONN_LISTEN and connection.pid:
            return _described(connection.pid)
    return "another program", "End that program"


def _described(pid: int) -> tuple[str, str]:
    try:
        process = psutil.Process(pid)
        shown = " ".join(process.cmdline())[:80]
        home = process.environ().get(HOME_MARK)
    except psutil.Error:
        return f"process {pid}", "End that process"
    if home:
        return (
            f"the network at {home} (process {pid})",
            f"Stop that network ({command_for(Path(home), 'down')})",
        )
    return f"`{shown}` (process {pid})", "End that program"


def _reserve(home: Path, base: int) -> bool:
    """Note that the block at `base` is this network's, so that one starting beside it takes another.

    A note whose network is gone, or has other ports, is void.
    """
    folder = Path(tempfile.gettempdir()) / f"cbmdhi-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    note = folder / f"ports-{base}"
    for _ in range(2):
        try:
            note.symlink_to(home)
            return True
        except FileExistsError:
            holder = note.readlink()
            if holder == home:
                return True
            if _base_of(holder) == base:
                return False
            note.unlink(missing_ok=True)
    return False


def _base_of(home: Path) -> int | None:
    """The base port that a network's state names."""
    try:
        return int(json.loads((home / "network.json").read_text())["base_port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
