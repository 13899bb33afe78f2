"""Runs a runbook's commands as somebody would who types them in the checkout."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ops.observe.docs import ROOT

_STOP_SECONDS = 5.0
_SHOWN_LINES = 2
_SHOWN_SIGNS = 180


class CommandsFailed(Exception):
    """Commands of a page ended with an error, or did not end in time; with the end of what they said."""


class Shell:
    """`.devnet` in a command is the network's home; programs of the checkout are found by their names.

    folder       where commands run
    environment  what they find in theirs besides
    """

    def __init__(
        self, home: Path, log: Path, folder: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self._home = home
        self._folder = folder
        own = (str(Path(sys.executable).parent), str(ROOT / ".tools" / "bin"))
        self._environment = {
            **os.environ,
            **(environment or {}),
            "CBMDHI_HOME": str(home),
            "PATH": os.pathsep.join((*own, os.environ.get("PATH", os.defpath))),
        }

    async def run(self, commands: str, deadline_seconds: float) -> str:
        """What the commands said. Raises CommandsFailed."""
        async with Running(self, commands) as running:
            await running.ended(deadline_seconds)
        return running.said()

    def start(self, commands: str) -> Running:
        """To be entered: the commands run until it is left."""
        return Running(self, commands)

    async def spawn(self, commands: str) -> asyncio.subprocess.Process:
        """Begin them, in a process group of their own; what they say goes to the log."""
        text = commands.replace(".devnet/", f"{shlex.quote(str(self._home))}/")
        with self.log.open("ab") as log:
            log.write(f"\n$ {commands}\n".encode())
            log.flush()
            return await asyncio.create_subprocess_exec(
                *("bash", "-euc", text),
                cwd=self._folder,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


class Running:
    """Commands that run: `async with shell.start(commands)`. Leaving it ends their whole process group."""

    def __init__(self, shell: Shell, commands: str) -> None:
        self._shell = shell
        self._commands = commands
        self._begins = 0
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Running:
        self._begins = self._shell.log.stat().st_size if self._shell.log.exists() else 0
        self._process = await self._shell.spawn(self._commands)
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.stop()

    @property
    def failed(self) -> bool:
        """True when they ended with an error of their own."""
        return self._process is not None and self._process.returncode not in (None, 0)

    async def ended(self, deadline_seconds: float) -> None:
        """Wait for their end. Raises CommandsFailed."""
        assert self._process is not None
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._process.wait()
        except TimeoutError as exc:
            raise CommandsFailed(f"{self._commands!r} did not end within {deadline_seconds:.0f} s") from exc
        self.check()

    def check(self) -> None:
        """Raises CommandsFailed when they ended with an error."""
        if self.failed:
            assert self._process is not None
            said = self.said() or "it said nothing"
            raise CommandsFailed(f"{self._commands!r} ended with {self._process.returncode}: {said}")

    async def stop(self) -> None:
        """End what still runs of them, as Ctrl-C does, and kill what has not ended soon after."""
        if self._process is None or self._process.returncode is not None:
            return
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
                return

    def said(self) -> str:
        """The last lines that they wrote."""
        with self._shell.log.open("rb") as log:
            log.seek(self._begins)
            lines = log.read().decode(errors="replace").strip().splitlines()
        told = [line.strip()[:_SHOWN_SIGNS] for line in lines if line.strip() and not line.startswith("$ ")]
        return "\n".join(told[-_SHOWN_LINES:])
