"""The bodies of requests, bounded by what is really there: a slow sender holds only what it has sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from services.gateway.room import Room
from services.runtime.errors import MeshError

_SECONDS = 10.0
_CHUNK_BYTES = 64 * 1024
_RETRY_MS = 500


class Bodies:
    """All bodies that are in memory at a time, `most_bytes` together. Raises MeshError."""

    def __init__(self, most_bytes: int) -> None:
        self._room = Room(most_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes of the bodies that are in memory now."""
        return self._room.used

    @asynccontextmanager
    async def of(self, request: web.Request, most_bytes: int) -> AsyncIterator[bytes]:
        """The body of a request, of at most so many bytes, for as long as it is needed."""
        chunks: list[bytes] = []
        taken = 0
        try:
            try:
                async with asyncio.timeout(_SECONDS):
                    async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                        if taken + len(chunk) > most_bytes:
                            raise MeshError(
                                code_pb2.CODE_TOO_LARGE, f"the body has at most {most_bytes} bytes: send less"
                            )
                        await self._take(len(chunk))
                        taken += len(chunk)
                        chunks.append(chunk)
            except TimeoutError as error:
                raise MeshError(
                    code_pb2.CODE_DEADLINE_EXCEEDED,
                    f"the body was not there within {_SECONDS:g} s; send it faster",
                ) from error
            except (ConnectionError, web.RequestPayloadError) as error:
                raise MeshError(code_pb2.CODE_INVALID, "the body broke off; send it again") from error
            yield b"".join(chunks)
        finally:
            self._room.give(taken)

    async def _take(self, size: int) -> None:
        # Not waited for: who waits with half a body would keep the other half's place from others who wait.
        if self._room.lacks(size):
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                "too much is under way; send again after the delay",
                retry_after_ms=_RETRY_MS,
            )
        await self._room.take(size)
