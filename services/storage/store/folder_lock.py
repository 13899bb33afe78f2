"""Locks for several storage processes of a member that share one folder.

The locks are bytes of an empty file (fcntl(2), open file description locks). They end with their process,
however it ends, and leave nothing behind.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import random
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from services.runtime.errors import MeshError
from services.runtime.keyed_locks import KeyedLocks

_FILE = "processes.lock"
_JOIN_SECONDS = 60.0
_HOLD_SECONDS = 30.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.005, 0.1

_PRESENCE = 0
# struct flock of 64-bit Linux: type, whence, start, length, pid (0).
_FLOCK = "hhqqi4x"


class SharedFolder:
    """`async with SharedFolder(folder)`: locks the folder until the process ends.

    alone  no other process had the folder when this one came. It may clean up after an earlier process, and
           keeps others out until `admit`
    """

    def __init__(self, folder: Path, *, join_seconds: float = _JOIN_SECONDS) -> None:
        self._file = folder / _FILE
        self._join_seconds = join_seconds
        self.alone = False

    async def __aenter__(self) -> Self:
        self._descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.alone = self._try(fcntl.F_WRLCK, _PRESENCE)
            if not self.alone:
                await self._take(fcntl.F_RDLCK, _PRESENCE, self._join_seconds, "a process that starts in it")
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def admit(self) -> None:
        """Let other processes in."""
        self._try(fcntl.F_RDLCK, _PRESENCE)

    def locks(self, purpose: str) -> SharedLocks:
        """Locks for the keys of one purpose. The same key under another purpose is another lock."""
        return SharedLocks(self, purpose)

    @asynccontextmanager
    async def hold(self, place: int) -> AsyncIterator[None]:
        """Lock a byte against other processes. Within this process `SharedLocks` does that.

        Raises MeshError UNAVAILABLE.
        """
        await self._take(fcntl.F_WRLCK, place, _HOLD_SECONDS, "a process that works with the same batch")
        try:
            yield
        finally:
            self._try(fcntl.F_UNLCK, place)

    async def _take(self, kind: int, place: int, seconds: float, whom: str) -> None:
        loop = asyncio.get_running_loop()
        ends_at, wait = loop.time() + seconds, _FIRST_WAIT_SECONDS
        while not self._try(kind, place):
            if loop.time() > ends_at:
                raise MeshError.unavailable(
                    f"{self._file.parent} was not free of {whom} within {seconds:g} s; see what runs there"
                )
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _try(self, kind: int, place: int) -> bool:
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, place, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, asked)
        except (BlockingIOError, PermissionError):
            return False
        return True


class SharedLocks(KeyedLocks):
    """KeyedLocks that also hold against other processes in the folder.

    `hold` raises MeshError UNAVAILABLE when another process does not release the lock.
    """

    def __init__(self, folder: SharedFolder, purpose: str) -> None:
        super().__init__()
        self._folder = folder
        self._purpose = purpose

    @asynccontextmanager
    async def _hold_one(self, key: str) -> AsyncIterator[None]:
        async with super()._hold_one(key), self._folder.hold(_place(self._purpose, key)):
            yield


def _place(purpose: str, key: str) -> int:
    """The offset of a byte in the file, behind that of presence: 62 bits of a hash."""
    digest = hashlib.sha256(f"{purpose}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 2) + _PRESENCE + 1
