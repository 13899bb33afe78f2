"""The volumes of several pods as they are at one instant, on whatever nodes the pods are.

The programs of each pod stand still and its files are copied within its volume (photograph.sh). None goes on
before all stand still; so there is an instant at which all did, and of which all copies are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from ops.backup.archive import LINKED, LONGEST_SECONDS, Taken
from ops.backup.errors import BackupError
from ops.backup.kubernetes.api import Api
from ops.backup.kubernetes.execution import Execution
from ops.backup.kubernetes.stateful import Volume

T = TypeVar("T")

SCRIPT = Path(__file__).with_name("photograph.sh").read_text()
# Whatever hangs is ended: more than the Job may take.
_LIFETIME_SECONDS = 6 * 3600
_BEGIN_SECONDS = 60.0
# Beside what the programs may stand still.
_GRACE_SECONDS = 5.0


class Bytes:
    """What an execution says, for code that is not asynchronous: to be read in another thread alone."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._loop = asyncio.get_running_loop()
        self._here = bytearray()

    def begin(self) -> None:
        """Have them come. Raises BackupError."""
        self._wait(self._execution.say("send"))

    def lines(self) -> Iterator[str]:
        """Lines up to an empty one. Raises BackupError."""
        while line := self._wait(self._execution.line()):
            yield line

    def read(self, size: int = -1, /) -> bytes:
        """`size` bytes; fewer only where they end."""
        while len(self._here) < size and (more := self._wait(self._execution.read())):
            self._here += more
        taken = bytes(self._here[:size])
        del self._here[:size]
        return taken

    def finish(self) -> None:
        """Raises BackupError unless all were read, and the command ended well."""
        if self._here:
            raise self._execution.ended()
        self._wait(self._execution.finish())

    def _wait(self, answer: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(answer, self._loop).result()


class Photograph:
    """A pod's photograph, which lies in its volume until it was read. `claim`: that of the volume.

    seconds       how long the pod's programs stood still
    copied_bytes  of the files that were not linked; known once it was read
    """

    def __init__(self, volume: Volume, seconds: float, execution: Execution) -> None:
        self.seconds = seconds
        self.copied_bytes = 0
        self.claim = volume.claim
        self._pod = volume.pod
        self._source = Bytes(execution)

    def contents(self) -> Iterator[Taken]:
        """What it shows, below the claim's name, while the bytes come.

        For a thread that reads each file before it takes the next.

        Raises:
            BackupError: they do not all come.
        """
        self._source.begin()
        for taken in [self._entry(line) for line in self._source.lines()]:
            if not re.fullmatch(LINKED, f"/{taken.name}"):
                self.copied_bytes += taken.size
            yield taken
        self._source.finish()

    def _entry(self, line: str) -> Taken:
        parts = line.split(" ", 3)
        if len(parts) != 4 or parts[0] not in ("d", "f"):
            raise BackupError(f"{self._pod}: a file's name has a line break in it.", "Rename it.")
        kind, mode, size, name = parts
        name = f"claims/{self.claim}/{name}"
        if kind == "d":
            return Taken(name, self._source, int(mode, 8), 0, is_folder=True)
        return Taken(name, self._source, int(mode, 8), int(size))


@asynccontextmanager
async def photographs(api: Api, volumes: Sequence[Volume]) -> AsyncIterator[list[Photograph]]:
    """Photograph volumes. Programs go on before the block begins; after it nothing is left in the pods.

    Raises:
        BackupError: not all stood still at one instant. All go on.
    """
    async with AsyncExitStack() as stack:
        executions: list[Execution] = []
        try:
            for volume in volumes:
                command = _command(volume)
                begun = api.execute(volume.pod, volume.container, command)
                executions.append(await stack.enter_async_context(begun))
            yield await _take(volumes, executions)
        finally:
            # At once for all: the connections are closed one after the other.
            await asyncio.gather(*(each.say("end") for each in executions), return_exceptions=True)


async def _take(volumes: Sequence[Volume], executions: Sequence[Execution]) -> list[Photograph]:
    try:
        async with asyncio.timeout(_BEGIN_SECONDS):
            await _together(each.expect("ready") for each in executions)
        async with asyncio.timeout(LONGEST_SECONDS + _GRACE_SECONDS):
            await _together(each.say("freeze") for each in executions)
            await _together(each.expect("still") for each in executions)
            await _together(each.say("all") for each in executions)
            stood = await _together(each.expect("done") for each in executions)
        pairs = zip(volumes, executions, stood, strict=True)
        return [Photograph(volume, int(took) / 1e9, each) for volume, each, took in pairs]
    except TimeoutError as exc:
        raise BackupError("Not all pods stood still in time; all go on.", "Try again.") from exc


async def _together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Wait for all; when one fails, for none any more."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _command(volume: Volume) -> list[str]:
    limited = ["timeout", "--kill-after=10", str(_LIFETIME_SECONDS)]
    script = ["sh", "-c", SCRIPT, "cbmdhi-photograph", volume.folder, f"{LONGEST_SECONDS:g}", LINKED]
    return [*limited, *script]
