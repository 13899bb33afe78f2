"""A gateway's REST interface that answers whatever a test wants, however wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CHALLENGE = {"challenge": "AAAA", "device": "cb1" + "d" * 32}
LOGIN = {"token": "token", "expires_in": 300}


@dataclass
class Answer:
    """`body`: bytes as they are, anything else as JSON."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def response(self) -> web.Response:
        """As aiohttp sends it."""
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return web.Response(body=raw, status=self.status, headers=self.headers)


@dataclass
class RestGateway:
    """Answers each path of `answers` as it says, and all else by `other`; `asked`: the paths, in order."""

    other: Answer = field(default_factory=Answer)
    answers: dict[str, Answer] = field(
        default_factory=lambda: {"/v1/session/challenge": Answer(CHALLENGE), "/v1/session": Answer(LOGIN)}
    )
    asked: list[str] = field(default_factory=list[str])
    url: str = ""

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        return self.answers.get(request.path, self.other).response()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[RestGateway]:
        """On a port of its own, on loopback."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        try:
            yield self
        finally:
            await runner.cleanup()
