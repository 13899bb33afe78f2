"""The link comes back whatever becomes of the library's own task that reconnects."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from services.runtime import nats_connection
from services.runtime.nats_connection import NatsConnection
from tests.support.waiting import until


class Client:
    """As the library's. `raises`: the next do not connect for that. `hang`: so many never say anything."""

    made: ClassVar[list[Client]] = []
    raises: ClassVar[list[Exception]] = []
    hang: ClassVar[int] = 0
    cancels: ClassVar[int] = 0
    """So many wait, as they close, for what they have cancelled themselves."""

    def __init__(self) -> None:
        self.is_connected = self.is_closed = False
        Client.made.append(self)

    async def connect(self, **_: Any) -> None:
        if Client.raises:
            raise Client.raises.pop()
        if Client.hang:
            Client.hang -= 1
            await asyncio.Event().wait()
        self.is_connected = True

    async def close(self) -> None:
        self.is_connected, self.is_closed = False, True
        if Client.cancels:
            Client.cancels -= 1
            waited_for: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waited_for.cancel()
            await waited_for

    async def drain(self) -> None:
        await self.close()


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    Client.made, Client.raises, Client.hang, Client.cancels = [], [], 0, 0
    monkeypatch.setattr(nats_connection, "Client", Client)
    monkeypatch.setattr(nats_connection, "_tls_context", lambda _: None)
    monkeypatch.setattr(nats_connection, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(nats_connection, "_RETRY_SECONDS", 0.01)


def link() -> NatsConnection:
    return NatsConnection(SimpleNamespace(url="tls://nats"), "ledger")  # type: ignore[arg-type]


async def test_a_client_that_is_away_and_never_says_that_it_gave_up_is_replaced() -> None:
    async with link() as one:
        await until(lambda: one.is_connected, "it is connected")
        Client.made[0].is_connected = False

        await until(lambda: one.is_connected, "it is connected anew")
        assert one.generation == 2
    assert [client.is_closed for client in Client.made] == [True, True]


async def test_whatever_the_library_raises_it_is_tried_again() -> None:
    Client.raises = [ValueError("no line"), AttributeError("no INFO"), asyncio.InvalidStateError()]
    async with link() as one:
        await until(lambda: one.is_connected, "it is connected")
        assert await one.check() is None
    assert len(Client.made) == 4


async def test_a_server_that_hangs_in_the_middle_of_the_handshake_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nats_connection, "_CONNECTED_WITHIN_SECONDS", 0.05)
    Client.hang = 2
    async with link() as one:
        await until(lambda: one.is_connected, "it is connected")
    assert [client.is_closed for client in Client.made] == [True, True, True]


async def test_what_the_library_cancels_of_itself_does_not_end_the_keeper_of_the_connection() -> None:
    async with link() as one:
        await until(lambda: one.is_connected, "it is connected")
        Client.cancels = 1
        Client.made[0].is_connected = False

        await until(lambda: one.is_connected, "it is connected anew")
        assert await one.check() is None
