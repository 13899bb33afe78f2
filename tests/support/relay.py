"""A relay in front of a server: everything comes through until clients have sent some, then no answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Relay:
    """Stands before `host:port`. What clients send always arrives.

    answers_until_bytes  of all clients together: once they have sent more, no answer comes through
    """

    def __init__(self, server: str, answers_until_bytes: int) -> None:
        self._host, port = server.rsplit(":", 1)
        self._port = int(port)
        self._left = answers_until_bytes
        self._busy: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until one side ends it."""
        try:
            answers, requests = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.close()
            return
        both = [
            asyncio.create_task(self._requests(reader, requests)),
            asyncio.create_task(self._answers(answers, writer)),
        ]
        self._busy.update(both)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.wait(both)
        for one in (writer, requests):
            one.close()
        self._busy.difference_update(both)

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(1 << 16):
                self._left -= len(some)
                writer.write(some)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while some := await reader.read(1 << 16):
                if self._left > 0:
                    writer.write(some)
                    await writer.drain()

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._busy):
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy)


@contextlib.asynccontextmanager
async def relay(server: str, *, answers_until_bytes: int) -> AsyncIterator[str]:
    """The address of a relay before `host:port`, on a port of its own."""
    made = Relay(server, answers_until_bytes)
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    try:
        yield f"localhost:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await made.close()
