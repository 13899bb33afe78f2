"""Running the programs that build, with their output in a log and their end tied to ours."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import BuildError


class Commands:
    """Runs programs one after the other for a step, or ends all of them when the build is interrupted."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def run(
        self, argv: Sequence[str | Path], cwd: Path, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Run `argv` to its end, its output appended to `log`.

        Raises:
            BuildError: the program is missing, ended with an error, or the build was interrupted.
        """
        arguments = [str(argument) for argument in argv]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            output.write(f"$ {' '.join(arguments)}\n".encode())
            output.flush()
            with self._lock:
                if self._stopped:
                    raise BuildError("The build was interrupted.", "Run it again: finished steps are kept.")
                try:
                    process = subprocess.Popen(
                        arguments,
                        cwd=cwd,
                        env={**os.environ, **(env or {})},
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                except FileNotFoundError as exc:
                    raise BuildError(f"{arguments[0]} is not installed or not on PATH.") from exc
                self._running.add(process)
            try:
                code = process.wait()
            finally:
                with self._lock:
                    self._running.discard(process)
        if code != 0:
            if self._stopped:
                raise BuildError("The build was interrupted.", "Run it again: finished steps are kept.")
            raise BuildError(
                f"`{' '.join(arguments[:4])} …` ended with code {code}:\n{tail(log)}",
                f"The whole output is in {log}. Run `make build` again when it is mended.",
            )

    def stop(self) -> None:
        """End every running program, with its children, and start no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGTERM)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, indented."""
    text = log.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join(f"    {line}" for line in text)
