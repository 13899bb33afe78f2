"""python -m tests.drills.traffic: a little is written and read all the time, however badly it goes.

`cbmdhi hammer` measures, and gives up when the mesh breaks down; this goes on, as hospitals do.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer

from cbmdhi.errors import MeshError
from ops.devnet.layout import home_at
from tests.drills import users as people
from tests.drills.users import People

_MOST_AT_ONCE = 400

Work = Callable[[], Awaitable[None]]


def main(
    writes: Annotated[float, typer.Option(min=0, help="Records a second, through mercy.")] = 4.0,
    reads: Annotated[float, typer.Option(min=0, help="Reads a second, through mercy.")] = 1.0,
    seconds: Annotated[float, typer.Option(min=1, help="How long.")] = 600.0,
    home: Annotated[Path | None, typer.Option(envvar="CBMDHI_HOME", help="Folder of the network.")] = None,
) -> None:
    """Write and read until the time is over or until Ctrl-C; then say what became of it."""
    asyncio.run(_main(home_at(home).path, writes, reads, seconds))


async def _main(home: Path, writes: float, reads: float, seconds: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as clients:
        users = await people.gather(home, clients)
        traffic = Traffic(users)
        await traffic.begin()
        print("sending", flush=True)
        try:
            async with asyncio.timeout(seconds):
                await traffic.run(writes, reads, stop)
        except TimeoutError:
            pass
        print(", ".join(f"{what}: {count}" for what, count in sorted(traffic.became.items())), flush=True)


class Traffic:
    """Operations begin when they are due, whatever became of the earlier ones."""

    def __init__(self, users: People) -> None:
        self.became: Counter[str] = Counter()
        self._users = users
        self._record = users.record()
        self._running: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Write what will be read. Raises MeshError."""
        await self._users.engine.records.put(self._record)

    async def run(self, writes: float, reads: float, stop: asyncio.Event) -> None:
        """Until `stop` is set or this is cancelled."""
        senders = [
            asyncio.create_task(self._every(1 / rate, work))
            for rate, work in ((writes, self._write), (reads, self._read))
            if rate
        ]
        try:
            await stop.wait()
        finally:
            for task in (*senders, *self._running):
                task.cancel()
            await asyncio.gather(*senders, *self._running, return_exceptions=True)

    async def _every(self, seconds: float, work: Work) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if len(self._running) < _MOST_AT_ONCE:
                task = asyncio.create_task(self._counted(work))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            due += seconds
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _counted(self, work: Work) -> None:
        try:
            await work()
        except MeshError as error:
            self.became[error.code_name] += 1

    async def _write(self) -> None:
        await self._users.engine.records.put(self._users.record())
        self.became["written"] += 1

    async def _read(self) -> None:
        record = self._record
        await self._users.patient.records.read(record.patient, record.record_id, record.version, "PATRQT")
        self.became["read"] += 1


if __name__ == "__main__":
    typer.run(main)
