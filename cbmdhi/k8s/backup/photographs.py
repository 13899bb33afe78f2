"""The volumes of several pods as they are at one instant, on whatever nodes the pods are.

The programs of each pod stand still and its files are copied within its volume (photograph.sh). None goes on
before all stand still; so there is an instant at which all did, and of which all copies are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cbmdhi.backup.archive import Readable, Taken
from cbmdhi.backup.errors import BackupError
from cbmdhi.backup.photograph import LINKED, LONGEST_SECONDS
from cbmdhi.k8s.backup.api import Api
from cbmdhi.k8s.backup.execution import Execution
from cbmdhi.k8s.backup.stateful import Volume

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


@dataclass(frozen=True)
class Photograph:
    """What a pod's photograph shows. `seconds`: how long the pod's programs stood still.

    taken  files and folders below the claim's name; the bytes of the files come in this order, once
    """

    volume: Volume
    seconds: float
    taken: Sequence[Taken]
    copied_bytes: int
    source: Bytes

    def contents(self) -> Iterator[Taken]:
        """What it shows, while the bytes come: for a thread that reads each file before it takes the next.

        Raises:
            BackupError: they do not all come.
        """
        self.source.begin()
        yield from self.taken
        self.source.finish()


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
        async with asyncio.timeout(_BEGIN_SECONDS):
            return await _together(map(_listed, volumes, executions, stood))
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


async def _listed(volume: Volume, execution: Execution, nanoseconds: str) -> Photograph:
    """Read the list that comes before the bytes."""
    source = Bytes(execution)
    taken: list[Taken] = []
    while line := await execution.line():
        taken.append(_entry(volume, line, source))
    copied = sum(each.size for each in taken if not re.fullmatch(LINKED, f"/{each.name}"))
    return Photograph(volume, int(nanoseconds) / 1e9, taken, copied, source)


def _entry(volume: Volume, line: str, source: Readable) -> Taken:
    parts = line.split(" ", 3)
    if len(parts) != 4 or parts[0] not in ("d", "f"):
        raise BackupError(f"{volume.pod}: a file's name has a line break in it.", "Rename it.")
    kind, mode, size, name = parts
    name = f"claims/{volume.claim}/{name}"
    if kind == "d":
        return Taken(name, source, int(mode, 8), 0, is_folder=True)
    return Taken(name, source, int(mode, 8), int(size))


def _command(volume: Volume) -> list[str]:
    limited = ["timeout", "--kill-after=10", str(_LIFETIME_SECONDS)]
    script = ["sh", "-c", SCRIPT, "cbmdhi-photograph", volume.folder, f"{LONGEST_SECONDS:g}", LINKED]
    return [*limited, *script]
