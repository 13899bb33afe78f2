"""supervisord: its configuration, its start, and talking to it over its socket.

It restarts what dies. Nothing starts by itself: the order of a start is ours (`network.py`).
"""

import hashlib
import http.client
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.devnet import processes
from ops.devnet.commands import environment
from ops.devnet.errors import DevnetError, NotReady
from ops.devnet.layout import Home, tool
from ops.devnet.templates import write_secret
from ops.devnet.waiting import until

# Linux allows 107 bytes in a socket's path, macOS 103; supervisord binds a name longer by its process id.
_LONGEST_SOCKET = 90
_WANTED_DESCRIPTORS = 16384
# Longer than the longest `stop_seconds`.
_ANSWER_SECONDS = 30.0
# XML-RPC faults of supervisord that mean "already so".
_ALREADY_STARTED = 60
_NOT_RUNNING = 70

RUNNING = "RUNNING"
_ENDED = ("STOPPED", "EXITED", "FATAL")
_ON_THE_WAY = ("STARTING", "BACKOFF")


@dataclass(frozen=True)
class Program:
    """A program under supervision. `stop_seconds`: how long it may take to end before it is killed."""

    name: str
    argv: Sequence[str | Path]
    directory: Path
    env: Mapping[str, str]
    stop_seconds: int = 10
    stop_signal: str = "TERM"


@dataclass(frozen=True)
class ProgramState:
    """What supervisord knows of a program. `state`: RUNNING, STARTING, BACKOFF, STOPPED, …"""

    name: str
    state: str
    pid: int
    started_at: int
    description: str

    @property
    def up(self) -> bool:
        """Running, or about to be."""
        return self.state == RUNNING or self.state in _ON_THE_WAY


class Supervisor:
    """The supervisord of the network at `home`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.configuration = home.supervisor / "supervisord.conf"
        self.pid_file = home.supervisor / "supervisord.pid"
        self.log = home.supervisor / "supervisord.log"
        self.socket = _socket_path(home)

    def configure(self, programs: Sequence[Program]) -> None:
        """Write supervisord.conf."""
        for program in programs:
            program.directory.mkdir(parents=True, exist_ok=True)
        self._home.logs.mkdir(parents=True, exist_ok=True)
        write_secret(self.configuration, "\n".join([self._server_part(), *map(self._program_part, programs)]))

    def start(self) -> None:
        """Start supervisord in the background, with no program running yet.

        Raises:
            NotReady: it did not answer in time.
        """
        self.socket.unlink(missing_ok=True)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        completed = subprocess.run(
            [tool("supervisord"), "--configuration", self.configuration],
            env=environment(processes.marks(self._home.path, processes.SUPERVISOR)),
            cwd=self._home.supervisor,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if completed.returncode != 0:
            told = (completed.stderr or completed.stdout).strip().splitlines()
            raise DevnetError(
                f"supervisord does not start: {told[-1] if told else 'no reason given'}",
                f"Its log: {self.log}",
            )
        until(lambda: self.alive() or None, "supervisord's answer", 10, remedy=f"Its log: {self.log}")

    def alive(self) -> bool:
        """True when supervisord answers."""
        try:
            self._call("getState")
        except NotReady:
            return False
        return True

    def pid(self) -> int:
        """supervisord's process id."""
        return int(self._call("getPID"))

    def states(self) -> dict[str, ProgramState]:
        """Every program as supervisord sees it.

        Raises:
            NotReady: supervisord does not answer.
        """
        return {
            entry["name"]: ProgramState(
                entry["name"],
                entry["statename"],
                entry["pid"] or 0,
                entry["start"] or 0,
                entry["spawnerr"] or entry["description"],
            )
            for entry in self._call("getAllProcessInfo")
        }

    def start_program(self, name: str) -> None:
        """Have a program started; does not wait for it. One that runs already is left alone."""
        self._call("startProcess", name, False, unless=_ALREADY_STARTED)

    def stop_program(self, name: str, *, wait: bool) -> None:
        """Have a program stopped, and wait for it when asked to. One that does not run is left alone."""
        self._call("stopProcess", name, wait, unless=_NOT_RUNNING)

    def signal_program(self, name: str, signal: str) -> None:
        """Send a program a signal, such as `KILL`."""
        self._call("signalProcess", name, signal, unless=_NOT_RUNNING)

    def wait_stopped(self, names: Sequence[str], seconds: float) -> None:
        """Wait until none of the programs runs."""

        def stopped() -> bool:
            states = self.states()
            return all(states[name].state in _ENDED for name in names if name in states)

        until(lambda: stopped() or None, f"the end of {', '.join(names)}", seconds)

    def reload(self) -> None:
        """Take the programs of a changed configuration; those that run and are unchanged keep running."""
        ((added, changed, removed),) = self._call("reloadConfig")
        for name in [*changed, *removed]:
            self.stop_program(name, wait=True)
            self._call("removeProcessGroup", name)
        for name in [*added, *changed]:
            self._call("addProcessGroup", name)

    def shut_down(self) -> None:
        """Have supervisord stop everything that still runs and end."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any, unless: int | None = None) -> Any:
        server = xmlrpc.client.ServerProxy(
            "http://supervisord", transport=_OverSocket(self.socket), allow_none=True
        )
        try:
            with server:
                return getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as exc:
            if exc.faultCode == unless:
                return None
            raise DevnetError(
                f"supervisord refuses {method} {' '.join(map(str, arguments))}: {exc.faultString}",
                f"Its log: {self.log}",
            ) from exc
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as exc:
            raise NotReady(
                f"supervisord does not answer ({exc}).", f"Run: {self._home.command('up')}"
            ) from exc

    def _server_part(self) -> str:
        return "\n".join(
            [
                "; Written at every start of the network; changes here are lost.",
                "[unix_http_server]",
                f"file={_escape(self.socket)}",
                "chmod=0600",
                "[supervisord]",
                f"logfile={_escape(self.log)}",
                "logfile_maxbytes=5MB",
                "logfile_backups=1",
                f"pidfile={_escape(self.pid_file)}",
                f"childlogdir={_escape(self._home.logs)}",
                f"directory={_escape(self._home.supervisor)}",
                f"minfds={_descriptors()}",
                # Some programs (the CAs' databases and issuer keys) would let others read what they write.
                "umask=077",
                # For people: supervisorctl -c .devnet/supervisor/supervisord.conf stop lakeside-ipfs
                "[supervisorctl]",
                f"serverurl={_escape(f'unix://{self.socket}')}",
                "[rpcinterface:supervisor]",
                "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
                "",
            ]
        )

    def _program_part(self, program: Program) -> str:
        env = {**program.env, **processes.marks(self._home.path, program.name)}
        assignments = ",".join(f'{name}="{value}"' for name, value in env.items())
        return "\n".join(
            [
                f"[program:{program.name}]",
                f"command={_escape(shlex.join(str(argument) for argument in program.argv))}",
                f"directory={_escape(program.directory)}",
                f"environment={_escape(assignments)}",
                "autostart=false",
                "autorestart=true",
                # A start counts when the program lives for a second; the pause between tries grows.
                "startsecs=1",
                "startretries=20",
                f"stopsignal={program.stop_signal}",
                f"stopwaitsecs={program.stop_seconds}",
                "stopasgroup=true",
                "killasgroup=true",
                f"stdout_logfile={_escape(self._home.log(program.name))}",
                "stdout_logfile_maxbytes=20MB",
                "stdout_logfile_backups=2",
                "redirect_stderr=true",
                "",
            ]
        )


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, with a deadline: a stopped supervisord must not stop us too."""

    def __init__(self, path: Path) -> None:
        super().__init__("supervisord", timeout=_ANSWER_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _OverSocket(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        """A connection to the socket, whatever the host is called."""
        self._connection = host, _SocketConnection(self._path)
        return self._connection[1]


def python() -> Path:
    """The Python that runs the services: the one that runs this."""
    return Path(sys.executable)


def _escape(value: str | Path) -> str:
    return str(value).replace("%", "%%")


def _descriptors() -> int:
    """Open files to ask for: Kubo, the peers and their state databases take many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)


def _socket_path(home: Home) -> Path:
    """Beside supervisord's other files; in the temporary folder when that path is too long for a socket."""
    near = home.supervisor / "supervisord.sock"
    if len(os.fsencode(near)) <= _LONGEST_SOCKET:
        return near
    key = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"cbmdhi-{os.getuid()}" / f"{key}.sock"
