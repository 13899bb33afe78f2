"""The laptop network as one thing: up, down, clean, and its single programs."""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ops.devnet import (
    endpoints,
    layout,
    orderers,
    ports,
    processes,
    programs,
    stale_programs,
    state,
    topology,
)
from ops.devnet.bootstrap import bootstrap
from ops.devnet.errors import DevnetError, NotReady
from ops.devnet.layout import Home
from ops.devnet.progress import Progress, Silent
from ops.devnet.start_programs import Starter
from ops.devnet.supervision import Supervisor
from ops.devnet.topology import (
    POSSIBLE_MEMBERS,
    SERVICES,
    Ports,
    all_programs,
    collectors,
    program_name,
    split_program,
)
from ops.devnet.waiting import until

_INFRASTRUCTURE_SECONDS = 45
_SERVICES_SECONDS = 60
# How long a program that runs may be silent before mending starts it anew.
_PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Started:
    """What `up` found and did.

    `mended`: programs that were down, deaf or outdated in a network that ran already.
    """

    first_time: bool
    already_running: bool
    mended: tuple[str, ...]
    seconds: float


class Network:
    """The network whose state lies under `home` (default: CBMDHI_HOME, else `.devnet` of the checkout).

    `base_port`: the first of its block of ports, decided when the network is made; None takes a free block.
    `members`: how many members it has, decided then too; None: two, or as many as it has.
    """

    def __init__(
        self,
        home: Path | None = None,
        base_port: int | None = None,
        progress: Progress | None = None,
        members: int | None = None,
    ) -> None:
        self.files: Home = layout.home_at(home)
        self._wanted_members = members
        if members is not None:
            if not 2 <= members <= len(POSSIBLE_MEMBERS):
                raise DevnetError(
                    f"A network on one machine has 2 to {len(POSSIBLE_MEMBERS)} members, not {members}.",
                    "Name as many: --members 3.",
                )
            if not self.files.state_file.exists():
                self.files = replace(self.files, members=POSSIBLE_MEMBERS[:members])
        self.home: Path = self.files.path
        self.supervisor = Supervisor(self.files)
        self._base_port = base_port
        self._progress: Progress = progress or Silent()

    # The whole network

    def up(self, *, services: bool = True, traced: bool | None = None) -> Started:
        """Start the network, or mend it. Over a running one it changes nothing.

        `services`: False leaves out the members' services (for tests of the infrastructure).
        `traced`: whether every program exports spans to a collector of its member; None leaves it as it is.

        Raises:
            DevnetError: with what to do about it.
        """
        started = time.monotonic()
        for name in (*layout.TOOLS, *(["otelcol"] if traced else [])):
            layout.tool(name)
        with state.exclusively(self.files):
            found = state.read(self.files)
            if found and not found.complete:
                self._progress.note(
                    "The first start was interrupted before the network was whole: starting it afresh."
                )
                self._stop_everything()
                self._forget()
                found = None
            retraced = self._set_traced(traced)
            wanted = [*self._collectors(), *self._infrastructure, *(self._services if services else [])]
            if found is None:
                self._make(wanted)
                return Started(True, False, (), time.monotonic() - started)
            if self._wanted_members not in (None, found.members):
                raise DevnetError(
                    f"This network has {found.members} members; they are part of its channel.",
                    f"Leave out --members, or forget the network first: {self.files.command('clean')}.",
                )
            if self._base_port not in (None, found.base_port):
                raise DevnetError(
                    f"This network's ports begin at {found.base_port}; they are part of its channel.",
                    "Leave out --base-port and CBMDHI_BASE_PORT, or forget the network first:"
                    f" {self.files.command('clean')}.",
                )
            ran = self.supervisor.alive()
            if ran and retraced:
                self._retrace(self._ports_at(found.base_port))
            mended = self._mend(self._ports_at(found.base_port), wanted) if ran else ()
            if not ran:
                self._start_again(self._ports_at(found.base_port), wanted)
            return Started(False, ran, mended, time.monotonic() - started)

    def down(self) -> int:
        """Stop every program, also of a half-dead network; how many there were. The state stays."""
        if not self.home.exists():
            return 0
        with state.exclusively(self.files):
            stopped = self._stop_everything()
            found = self._state_or_none()
            if found and found.complete:
                self._write_endpoints(self._ports_at(found.base_port))
            return stopped

    def clean(self) -> bool:
        """Stop the network and remove its state. False when there was none.

        Raises:
            DevnetError: the folder holds something, but not a network.
        """
        if not self.home.exists():
            return False
        if not self.files.state_file.exists() and not self._only_leftovers():
            raise DevnetError(
                f"{self.home} is not the home of a network ({self.files.state_file.name} is missing).",
                "Nothing was removed. If you mean this folder, remove it yourself.",
            )
        with state.exclusively(self.files):
            self._stop_everything()
            self._forget()
        shutil.rmtree(self.home)
        return True

    # Single programs

    def restart(self, program: str, *, wait: bool = True) -> None:
        """Stop a program as a rolling update would (it may drain), start it, wait until it is ready."""
        self.stop(program)
        self.start(program, wait=wait)

    def stop(self, program: str) -> None:
        """Stop a program and keep it stopped."""
        topology.split_program(program)
        self.supervisor.stop_program(program, wait=True)

    def start(self, program: str, *, wait: bool = True) -> None:
        """Start a stopped program, and wait until it is ready unless told not to."""
        topology.split_program(program)
        self.supervisor.start_program(program)
        if wait:
            self.wait_ready(program)
        self._write_endpoints(self.ports())

    def kill(self, program: str) -> int:
        """Kill a program without warning (SIGKILL); the supervisor starts it again. Its old process id."""
        topology.split_program(program)
        pid = self.supervisor.states()[program].pid
        self.supervisor.signal_program(program, "KILL")
        return pid

    def wait_ready(self, *names: str, seconds: float = 60) -> None:
        """Wait until the programs (default: all) are ready.

        Raises:
            NotReady: with the reason and the end of a log.
        """
        self._starter(self.ports()).wait(names or self.programs(), seconds)

    # What others ask

    def exists(self) -> bool:
        """True when the network was made (it need not run)."""
        found = self._state_or_none()
        return bool(found and found.complete)

    def programs(self, organisation: str | None = None) -> list[str]:
        """Names of all programs, or of an organisation's, in starting order; collectors when it is traced."""
        names = [*self._collectors(), *all_programs(self.files.members)]
        return [name for name in names if organisation in (None, split_program(name)[0])]

    def ports(self) -> Ports:
        """The network's ports.

        Raises:
            DevnetError: there is no network here yet.
        """
        found = state.read(self.files)
        if found is None:
            raise DevnetError(f"There is no network at {self.home}.", f"Run: {self.files.command('up')}")
        return self._ports_at(found.base_port)

    def endpoints(self) -> dict[str, Any]:
        """endpoints.json as it is now, process ids included.

        Raises:
            DevnetError: there is no network here yet.
        """
        if not self.exists():
            raise DevnetError(f"There is no network at {self.home}.", f"Run: {self.files.command('up')}")
        self._write_endpoints(self.ports())
        return json.loads(self.files.endpoints_file.read_text())

    # How

    def _set_traced(self, traced: bool | None) -> bool:
        """True when that is a change."""
        if traced is None or traced == self.files.traced:
            return False
        if traced:
            self.files.traced_file.touch()
        else:
            self.files.traced_file.unlink()
        return True

    def _retrace(self, at: Ports) -> None:
        """Stop what was told otherwise at its start; mending starts it again."""
        running = [name for name, found in self.supervisor.states().items() if found.up]
        with self._progress.step("Telling every program whether it is traced"):
            self._stop_in_order([name for name in running if name in self._services])
            self._configure(at)
            self.supervisor.reload()

    def _make(self, wanted: list[str]) -> None:
        self.home.chmod(0o700)
        members = self.files.members
        chosen = ports.choose(self.home, self._base_port, members)
        state.save(self.files, state.State(state.VERSION, chosen.base, complete=False, members=len(members)))
        self._end_strays()
        starter = self._starter(chosen)
        bootstrap(self.files, chosen, self.supervisor, starter, self._progress)
        state.save(self.files, state.State(state.VERSION, chosen.base, complete=True, members=len(members)))
        self._start_wanted(starter, wanted)
        self._write_endpoints(chosen)

    def _start_again(self, at: Ports, wanted: list[str]) -> None:
        try:
            self._configure(at)
        except FileNotFoundError as exc:
            raise DevnetError(
                f"The network's state is not whole: {exc.filename} is missing.",
                f"Make it anew: {state.anew(self.files)}.",
            ) from exc
        strays = self._end_strays()
        if strays:
            self._progress.note(f"The supervisor was gone; {strays} programs that it left behind were ended.")
        ports.require_free(self.home, at)
        with self._progress.step("Supervisor"):
            self.supervisor.start()
        self._start_wanted(self._starter(at), wanted)
        self._write_endpoints(at)

    def _configure(self, at: Ports) -> None:
        programs.configure(self.files, at)
        endpoints.write_consortium(self.files, at)
        self.supervisor.configure(programs.describe(self.files, at))

    def _start_wanted(self, starter: Starter, wanted: list[str]) -> None:
        """Start all at once: whatever needs another waits for it, as it must when that one restarts later."""
        infrastructure = [name for name in wanted if name not in self._services]
        services = [name for name in wanted if name in self._services]
        starter.start([*infrastructure, *services])
        with self._progress.step("Certificate authorities, orderers, peers, chaincode, Kubo and NATS ready"):
            starter.wait(infrastructure, _INFRASTRUCTURE_SECONDS)
        orderers.rejoin_lost(self.files, self.ports(), self._progress)
        if services:
            with self._progress.step("Services of the members ready"):
                starter.wait(services, _SERVICES_SECONDS)

    def _mend(self, at: Ports, wanted: list[str]) -> tuple[str, ...]:
        """Start what is down, restart what was changed since its start or is deaf; the names of all these."""
        starter = self._starter(at)
        states = self.supervisor.states()
        if any(name not in states for name in wanted):
            self._configure(at)
            self.supervisor.reload()
        dead = [name for name in wanted if name not in states or not states[name].up]
        if dead:
            with self._progress.step(f"Starting what is down: {_named(dead)}"):
                starter.start(dead)
        old = [name for name in stale_programs.outdated(states) if name in wanted]
        if old:
            with self._progress.step(f"Restarting what was changed since its start: {_named(old)}"):
                self._stop_in_order(old)
                starter.start(old)
        dead += old
        deaf: list[str] = []
        # The infrastructure first: services that wait for it are not ready, and not to blame.
        for part in ([*collectors(self.files.members), *self._infrastructure], self._services):
            names = [name for name in wanted if name in part]
            deaf += self._wake(starter, [name for name in names if name not in dead])
            if starter.unready(names):
                with self._progress.step(f"Waiting for {_named(starter.unready(names))}"):
                    starter.wait(names, _SERVICES_SECONDS)
        lost = orderers.rejoin_lost(self.files, at, self._progress)
        rejoined = [program_name(org, topology.ORDERER) for org in lost]
        self._write_endpoints(at)
        return tuple(dict.fromkeys([*dead, *deaf, *rejoined]))

    def _wake(self, starter: Starter, names: list[str]) -> list[str]:
        """Kill those that have not answered for a while (they may be stopped or stuck); which ones.

        One that answers that it is not ready waits for another, and is left alone.
        """
        deaf = starter.unheard(names)
        if not deaf:
            return []

        def answered() -> bool:
            deaf[:] = starter.unheard(deaf)
            return not deaf

        with self._progress.step(f"Waiting for an answer of {_named(deaf)}"), suppress(NotReady):
            until(lambda: answered() or None, "an answer", _PATIENCE_SECONDS)
        for name in deaf:
            # The supervisor starts again what was killed.
            self.supervisor.signal_program(name, "KILL")
            self.supervisor.start_program(name)
        if deaf:
            with self._progress.step(f"Restarting what does not answer: {_named(deaf)}"):
                starter.wait(deaf, _SERVICES_SECONDS)
        return deaf

    def _stop_everything(self) -> int:
        """Services first, then what they stand on; then whatever is left, by its mark."""
        ours = processes.of_network(self.home)
        count = sum(len(found) for found in ours.values())
        if count == 0:
            self.supervisor.socket.unlink(missing_ok=True)
            return 0
        with self._progress.step(f"Stopping {count} processes"):
            # Whatever the supervisor does not manage is ended below.
            with suppress(NotReady):
                states = self.supervisor.states()
                self._stop_in_order([name for name, found in states.items() if found.up])
                supervisor = ours.get(processes.SUPERVISOR, [])
                self.supervisor.shut_down()
                until(
                    lambda: not any(process.is_running() for process in supervisor) or None,
                    "the supervisor's end",
                    20,
                )
            self._end_strays()
        self.supervisor.socket.unlink(missing_ok=True)
        return count

    def _stop_in_order(self, programs: list[str]) -> None:
        for tier in _STOPPING:
            names = [name for name in programs if topology.split_program(name)[1] in tier]
            for name in names:
                self.supervisor.stop_program(name, wait=False)
            self.supervisor.wait_stopped(names, 25)

    def _end_strays(self) -> int:
        """End what lives of this network without a supervisor that answers; the supervisor itself first."""
        left = processes.of_network(self.home)
        ended = processes.end(left.pop(processes.SUPERVISOR, []))
        return ended + processes.end([process for found in left.values() for process in found])

    def _forget(self) -> None:
        """Remove the state, but not the lock that is being held."""
        for path in self.home.iterdir():
            if path == self.files.lock_file:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _only_leftovers(self) -> bool:
        return all(path == self.files.lock_file for path in self.home.iterdir())

    def _state_or_none(self) -> state.State | None:
        try:
            return state.read(self.files)
        except DevnetError:
            return None

    @property
    def _services(self) -> list[str]:
        return [program_name(org, service) for service in SERVICES for org in self.files.members]

    @property
    def _infrastructure(self) -> list[str]:
        services = self._services
        return [name for name in all_programs(self.files.members) if name not in services]

    def _collectors(self) -> list[str]:
        return collectors(self.files.members) if self.files.traced else []

    def _ports_at(self, base: int) -> Ports:
        return Ports(base, self.files.members)

    def _starter(self, at: Ports) -> Starter:
        return Starter(self.files, at, self.supervisor)

    def _write_endpoints(self, at: Ports) -> None:
        pids: dict[str, int] = {}
        if self.supervisor.alive():
            pids = {name: found.pid for name, found in self.supervisor.states().items()}
            pids[processes.SUPERVISOR] = self.supervisor.pid()
        endpoints.write_endpoints(self.files, at, self.supervisor, pids)


# What is stopped together; each tier after the one before has ended.
_STOPPING = (
    ("gateway",),
    ("identity", "storage", "notify"),
    ("ledger",),
    ("chaincode", "peer", "ipfs", "nats", "ca", "orderer", "otelcol"),
)


def _named(names: list[str]) -> str:
    """The names as they fit a line."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
