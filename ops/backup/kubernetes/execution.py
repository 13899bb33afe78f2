"""A command that runs in a pod, by the API server's exec: its words, its bytes, its end.

Protocol `v5.channel.k8s.io` over a WebSocket: the first byte of a message is its channel.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from ops.backup.errors import BackupError

PROTOCOL = "v5.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS = range(4)
# Whatever lies between forgets connections on which nothing moves.
_PING_SECONDS = 30.0
_COMPLAINT_BYTES = 2000


class Execution:
    """Speaks to the command. `where`: by what name it is told of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, where: str) -> None:
        self._socket = socket
        self._where = where
        self._heard = bytearray()
        self._complaint = bytearray()
        self._status: dict[str, Any] | None = None

    async def say(self, word: str) -> None:
        """Write a line to the command's stdin.

        Raises:
            BackupError: the connection is broken.
        """
        try:
            await self._socket.send_bytes(bytes([STDIN]) + word.encode() + b"\n")
        except (aiohttp.ClientError, OSError) as exc:
            raise self.ended() from exc

    async def line(self) -> str:
        """The next line of the command's stdout.

        Raises:
            BackupError: there is none, or none any more; with the command's own words.
        """
        while (end := self._heard.find(b"\n")) < 0:
            if not await self._hear():
                raise self.ended()
        line = self._heard[:end].decode(errors="replace")
        del self._heard[: end + 1]
        return line

    async def expect(self, word: str) -> str:
        """The rest of the next line, which begins with this word. Raises BackupError: see `line`."""
        said, _, rest = (await self.line()).partition(" ")
        if said != word:
            raise BackupError(f"{self._where} says {said[:80]!r} where it must say {word!r}.", "Try again.")
        return rest

    async def read(self) -> bytes:
        """The next bytes of the command's stdout, at least one; none at its end."""
        while not self._heard and await self._hear():
            pass
        taken = bytes(self._heard)
        self._heard.clear()
        return taken

    async def finish(self) -> None:
        """Wait for the command's end.

        Raises:
            BackupError: it did not end well, or says more than it was asked for.
        """
        more = await self.read()
        if more or not self._status or self._status.get("status") != "Success":
            raise self.ended()

    def ended(self) -> BackupError:
        """Why the command has no more to say."""
        complaint = self._complaint.decode(errors="replace").strip()
        told = complaint or (self._status or {}).get("message") or "its connection broke, or it says too much"
        return BackupError(f"{self._where}: {told}.", "Nothing was taken; its programs go on. Try again.")

    async def keep_alive(self) -> None:
        """Ping until cancelled."""
        with suppress(aiohttp.ClientError, OSError):
            while True:
                await asyncio.sleep(_PING_SECONDS)
                await self._socket.ping()

    async def _hear(self) -> bool:
        """Take in one message; False when there will be none any more."""
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            return False
        channel, content = message.data[0], message.data[1:]
        if channel == STDOUT:
            self._heard += content
        elif channel == STDERR:
            self._complaint = (self._complaint + content)[-_COMPLAINT_BYTES:]
        elif channel == STATUS and content:
            self._status = json.loads(content)
        return True


@asynccontextmanager
async def running(socket: aiohttp.ClientWebSocketResponse, where: str) -> AsyncIterator[Execution]:
    """The command behind an open connection, which the block's end closes: its stdin ends then."""
    execution = Execution(socket, where)
    pings = asyncio.create_task(execution.keep_alive())
    try:
        yield execution
    finally:
        pings.cancel()
        await asyncio.gather(pings, return_exceptions=True)
        await socket.close()
