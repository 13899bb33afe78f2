"""How many connections of one source are open: who opens more finds them closed."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

from services.gateway.domain.source import Sources


class ConnectionLimit:
    """Counts the connections of a server. Those of a trusted proxy are many callers', and are not counted."""

    def __init__(self, sources: Sources, most_of_one: int) -> None:
        self._sources = sources
        self._most_of_one = most_of_one
        self._open: Counter[str] = Counter()
        self._of: dict[Any, str] = {}

    def count_those_of(self, server: web.Server) -> None:
        """Have every connection of this server counted from now on."""
        made, lost = server.connection_made, server.connection_lost

        def counted(handler: Any, transport: asyncio.Transport) -> None:
            made(handler, transport)
            if not self._opened(handler, transport):
                transport.abort()

        def gone(handler: Any, exc: BaseException | None = None) -> None:
            self._closed(handler)
            lost(handler, exc)

        server.connection_made = counted
        server.connection_lost = gone

    def _opened(self, handler: Any, transport: asyncio.Transport) -> bool:
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        if self._sources.is_proxy(peer):
            return True
        source = self._sources.of(peer)
        self._of[handler] = source
        self._open[source] += 1
        return self._open[source] <= self._most_of_one

    def _closed(self, handler: Any) -> None:
        source = self._of.pop(handler, None)
        if source is None:
            return
        self._open[source] -= 1
        if not self._open[source]:
            del self._open[source]
