"""A build as steps that wait for one another, each done only when what it is made from has changed."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from .commands import Commands
from .display import Display
from .errors import BuildError
from .fingerprint import Stamp, Stamps


@dataclass(frozen=True)
class Step:
    """One thing to build.

    `fingerprint` is called when the steps in `after` are done; the step runs when it differs from the
    last finished one or when something of `outputs()` is missing. `run` gets the step's log file.
    """

    name: str
    title: str
    expected_seconds: float
    fingerprint: Callable[[], str]
    outputs: Callable[[], Sequence[Path]]
    run: Callable[[Path], None]
    after: tuple[str, ...] = ()


class Builder:
    """Runs steps, at most `width` at a time, each after those it names."""

    def __init__(
        self, stamps: Stamps, logs: Path, display: Display, commands: Commands, width: int = 2
    ) -> None:
        self._stamps = stamps
        self._logs = logs
        self._display = display
        self._commands = commands
        self._width = width
        self._failed = threading.Event()

    def build(self, steps: Sequence[Step]) -> int:
        """Bring every step up to date; how many had to run.

        Raises:
            BuildError: the first step that failed; the others are ended.
        """
        waiting = {step.name: step for step in steps}
        names = set(waiting)
        running: dict[Future[bool], str] = {}
        done: set[str] = set()
        built = 0
        with ThreadPoolExecutor(self._width) as pool:
            try:
                while waiting or running:
                    for name, step in list(waiting.items()):
                        if (names & set(step.after)) <= done:
                            running[pool.submit(self._bring_up_to_date, step)] = name
                            del waiting[name]
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        built += future.result()
                        done.add(running.pop(future))
            except (BuildError, KeyboardInterrupt):
                self._failed.set()
                self._commands.stop()
                raise
        return built

    def _bring_up_to_date(self, step: Step) -> bool:
        if self._failed.is_set():
            raise BuildError("The build was interrupted.")
        fingerprint = step.fingerprint()
        stamp = self._stamps.read(step.name)
        if stamp and stamp.fingerprint == fingerprint and all(path.exists() for path in step.outputs()):
            return False
        log = self._logs / f"{step.name}.log"
        log.unlink(missing_ok=True)
        started = time.monotonic()
        self._display.start(step.name, step.title, stamp.seconds if stamp else step.expected_seconds)
        try:
            step.run(log)
            missing = [path.name for path in step.outputs() if not path.exists()]
            if missing:
                raise BuildError(f"{step.title}: {', '.join(missing)} was not made.", f"See {log}.")
        except BuildError:
            self._display.fail(step.name)
            raise
        seconds = time.monotonic() - started
        self._stamps.write(step.name, Stamp(fingerprint, seconds))
        self._display.finish(step.name, seconds)
        return True
