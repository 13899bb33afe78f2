"""The bodies of requests, bounded by what is really there: a slow sender holds only what it has sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError

_CHUNK_BYTES = 64 * 1024
_RETRY_MS = 500
_SHARE = 4


class Bodies:
    """All bodies that are in memory at a time, `most_bytes` together, a quarter of it for one caller or
    source. Raises MeshError."""

    def __init__(self, most_bytes: int, seconds: float = 10.0) -> None:
        self._most = most_bytes
        self._seconds = seconds
        self.held_bytes = 0
        self._held_by: Counter[str] = Counter()

    @asynccontextmanager
    async def of(
        self, request: web.Request, most_bytes: int, whose: str, seconds: float | None = None
    ) -> AsyncIterator[bytes]:
        """The body of a request, of at most so many bytes, for as long as it is needed.

        whose    caller or source that it is counted for
        seconds  until it has to be there
        """
        body = bytearray()
        try:
            await self._read(request, most_bytes, body, whose, seconds or self._seconds)
            yield bytes(body)
        finally:
            self._hold(whose, -len(body))

    async def _read(
        self, request: web.Request, most_bytes: int, body: bytearray, whose: str, seconds: float
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                    self._check_room(len(body) + len(chunk), most_bytes, len(chunk), whose)
                    body += chunk
                    self._hold(whose, len(chunk))
        except TimeoutError as error:
            raise MeshError(
                code_pb2.CODE_DEADLINE_EXCEEDED,
                f"the body was not there within {seconds:g} s; send it faster",
            ) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise MeshError(code_pb2.CODE_INVALID, "the body broke off; send it again") from error

    def _check_room(self, size: int, most_bytes: int, more: int, whose: str) -> None:
        if size > most_bytes:
            raise MeshError(code_pb2.CODE_TOO_LARGE, f"the body has at most {most_bytes} bytes: send less")
        # Not waited for: who waits with half a body would keep the other half's place from others who wait.
        if self.held_bytes + more > self._most or self._held_by[whose] + more > self._most // _SHARE:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                "too much is under way; send again after the delay",
                retry_after_ms=_RETRY_MS,
            )

    def _hold(self, whose: str, more: int) -> None:
        self.held_bytes += more
        self._held_by[whose] += more
        if not self._held_by[whose]:
            del self._held_by[whose]
