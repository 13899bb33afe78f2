"""Bodies of requests: bounded together, and nothing is left of them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest
from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from services.gateway.rest.body import Bodies
from services.runtime.errors import MeshError


class Content:
    """A request whose body comes in these chunks; `after`: raised then."""

    def __init__(self, *chunks: bytes, after: Exception | None = None) -> None:
        self._chunks, self._after = chunks, after
        self.headers: dict[str, str] = {}

    @property
    def content(self) -> "Content":
        return self

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._after is not None:
            raise self._after


def request(*chunks: bytes, after: Exception | None = None) -> web.Request:
    return cast(Any, Content(*chunks, after=after))


async def test_a_body_is_held_as_long_as_it_is_needed_and_no_longer() -> None:
    bodies = Bodies(100)
    async with bodies.of(request(b"ab", b"c"), 10, "caller") as body:
        assert (body, bodies.budget.used) == (b"abc", 3)
    assert bodies.budget.used == 0


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (request(b"x" * 8, b"x" * 3), code_pb2.CODE_TOO_LARGE),
        (request(b"x", after=ConnectionResetError()), code_pb2.CODE_INVALID),
        (request(b"x", after=web.RequestPayloadError()), code_pb2.CODE_INVALID),
    ],
)
async def test_what_was_held_of_a_body_that_is_not_taken_is_given_back(sent: web.Request, code: int) -> None:
    bodies = Bodies(100)
    with pytest.raises(MeshError) as refused:
        async with bodies.of(sent, 10, "caller"):
            pass
    assert (refused.value.code, bodies.budget.used) == (code, 0)


async def test_beyond_what_all_may_hold_senders_are_asked_to_come_back_and_those_there_go_on() -> None:
    bodies = Bodies(32)
    async with AsyncExitStack() as held:
        there = [
            await held.enter_async_context(bodies.of(request(b"x" * 8), 10, name)) for name in ("a", "b", "c")
        ]
        await held.enter_async_context(bodies.of(request(b"x" * 7), 10, "d"))
        with pytest.raises(MeshError) as refused:
            async with bodies.of(request(b"y" * 3), 10, "e"):
                pass
        assert refused.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED
        assert refused.value.retry_after_ms > 0
        assert there == [b"x" * 8] * 3
    async with bodies.of(request(b"y" * 3), 10, "e") as body:
        assert body == b"yyy"


async def test_nobody_holds_more_than_a_quarter() -> None:
    bodies = Bodies(40)
    async with bodies.of(request(b"x" * 8), 10, "greedy"):
        with pytest.raises(MeshError) as refused:
            async with bodies.of(request(b"x" * 8), 10, "greedy"):
                pass
        assert refused.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED
        async with bodies.of(request(b"y" * 8), 10, "modest") as body:
            assert body == b"y" * 8
    assert bodies.budget.used == 0
