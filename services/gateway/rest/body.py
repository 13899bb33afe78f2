"""The bodies of requests, bounded by what has arrived: a slow sender holds only what it has sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from services.runtime.byte_budget import ByteBudget, budget_is_used_up
from services.runtime.errors import MeshError

_CHUNK_BYTES = 64 * 1024
_SHARE = 4


class Bodies:
    """All bodies that are in memory at a time, `most_bytes` together, a quarter of it for one caller or
    source. Raises MeshError."""

    def __init__(self, most_bytes: int, seconds: float = 10.0) -> None:
        self.budget = ByteBudget(most_bytes)
        self._seconds = seconds
        self._shares: WeakValueDictionary[str, ByteBudget] = WeakValueDictionary()

    @asynccontextmanager
    async def of(
        self, request: web.Request, most_bytes: int, whose: str, seconds: float | None = None
    ) -> AsyncIterator[bytes]:
        """The body of a request, of at most so many bytes, for as long as it is needed.

        whose    caller or source that it is counted for
        seconds  until it has to be there
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType  # a compressed one says nothing of how large it is
        body = bytearray()
        share = self._shares.setdefault(whose, ByteBudget(self.budget.most // _SHARE, self.budget))
        try:
            await self._read(request, most_bytes, body, share, seconds or self._seconds)
            yield bytes(body)
        finally:
            share.give(len(body))

    async def _read(
        self, request: web.Request, most_bytes: int, body: bytearray, share: ByteBudget, seconds: float
    ) -> None:
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
                    if len(body) + len(chunk) > most_bytes:
                        reason = f"the body has at most {most_bytes} bytes: send less"
                        raise MeshError(code_pb2.CODE_TOO_LARGE, reason)
                    # Refused at once: two senders that each wait with half a body would wait for each other.
                    if not share.try_take(len(chunk)):
                        raise budget_is_used_up()
                    body += chunk
        except TimeoutError as error:
            raise MeshError(
                code_pb2.CODE_DEADLINE_EXCEEDED,
                f"the body was not there within {seconds:g} s; send it faster",
            ) from error
        except (ConnectionError, web.RequestPayloadError) as error:
            raise MeshError(code_pb2.CODE_INVALID, "the body broke off; send it again") from error
