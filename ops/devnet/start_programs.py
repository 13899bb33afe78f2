"""Starts programs under the supervisor and waits until each says that it is ready."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ops.devnet import health
from ops.devnet.layout import Home
from ops.devnet.supervision import Supervisor
from ops.devnet.topology import Ports
from ops.devnet.waiting import until

# Starts of a program that ended at once, after which waiting is in vain (the supervisor goes on trying).
_ATTEMPTS = 5


class Starter:
    """Starts and waits. Tells why a program does not come up: its own word, its log's end."""

    def __init__(self, home: Home, ports: Ports, supervisor: Supervisor) -> None:
        self._home = home
        self._ports = ports
        self._supervisor = supervisor

    def start(self, names: Sequence[str]) -> None:
        """Have the programs started."""
        for name in names:
            self._supervisor.start_program(name)

    def wait(self, names: Sequence[str], seconds: float) -> None:
        """Wait until all the programs are ready.

        Raises:
            NotReady: one is not within `seconds`, or the supervisor gave it up; with the end of its log.
        """
        missing = list(names)
        attempts: dict[str, set[int]] = {name: set() for name in names}

        def ready() -> bool:
            missing[:] = self.unready(missing)
            return not missing

        def given_up() -> str | None:
            states = self._supervisor.states()
            for name in missing:
                if name in states and states[name].state in ("BACKOFF", "FATAL"):
                    attempts[name].add(states[name].started_at)
                    if states[name].state == "FATAL" or len(attempts[name]) >= _ATTEMPTS:
                        missing[:] = [name]
                        return f"{name} ends as soon as it is started."
            return None

        until(
            lambda: ready() or None,
            lambda: f"Readiness of {', '.join(missing)}",
            seconds,
            remedy=lambda: self.explain(missing),
            give_up=given_up,
            interval=0.2,
        )

    def start_and_wait(self, names: Sequence[str], seconds: float) -> None:
        """Both."""
        self.start(names)
        self.wait(names, seconds)

    def unready(self, names: Sequence[str]) -> list[str]:
        """Those of the programs that are not ready now."""
        return [name for name, answer in self._ask(names).items() if not answer.ready]

    def unheard(self, names: Sequence[str]) -> list[str]:
        """Those of the programs that do not answer at all. One that waits for another does answer."""
        return [name for name, answer in self._ask(names).items() if not answer.heard]

    def _ask(self, names: Sequence[str]) -> dict[str, health.Answer]:
        if not names:
            return {}
        with ThreadPoolExecutor(min(len(names), 8)) as pool:
            answers = pool.map(lambda name: health.ask(name, self._ports), names)
            return dict(zip(names, answers, strict=True))

    def explain(self, names: Sequence[str]) -> str:
        """Why the programs are not ready, as far as it can be known."""
        states = self._supervisor.states()
        told: list[str] = []
        for name in names[:3]:
            state = states[name].state if name in states else "unknown to the supervisor"
            log = self._home.log(name)
            told.append(f"{name} ({state}) {health.ask(name, self._ports).reason}; its log, {log}, ends:")
            told += [f"    {line}" for line in _tail(log)]
        return "\n  ".join(
            [*told, f"`{self._home.command('doctor')}` says more. `{self._home.command('up')}` tries again."]
        )


def _tail(log: Path, lines: int = 6) -> list[str]:
    if not log.exists():
        return ["(nothing)"]
    with log.open("rb") as stream:
        stream.seek(max(log.stat().st_size - 8192, 0))
        return [line[:300] for line in stream.read().decode(errors="replace").splitlines()[-lines:]]
