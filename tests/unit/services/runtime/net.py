"""A server of mercy's notify and whoever wants to call it, over real mTLS connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.runtime.client import connect
from services.runtime.errors import MeshError
from services.runtime.server import GrpcServer
from tests.support.pki import Consortium

Handler = Callable[[Any, Any], Awaitable[Any]]


@dataclass
class Inbox(notify_pb2_grpc.InboxServiceServicer):
    """Answers as the test says."""

    on_list: Handler
    on_stream: Callable[[Any, Any], AsyncIterator[Any]] | None = None
    calls: int = field(default=0)

    async def List(self, request: Any, context: Any) -> Any:
        self.calls += 1
        return await self.on_list(request, context)

    async def Stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        assert self.on_stream is not None
        async with aclosing(self.on_stream(request, context)) as answers:  # type: ignore[type-var]
            async for answer in answers:
                yield answer


async def nothing(_: Any, __: Any) -> notify_pb2.ListResponse:
    return notify_pb2.ListResponse()


@dataclass
class Net:
    """A server of mercy's notify, and whoever wants to call it."""

    consortium: Consortium
    server: GrpcServer
    inbox: Inbox
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def stub(self, service: str = "gateway", organisation: str = "mercy") -> notify_pb2_grpc.InboxServiceStub:
        return notify_pb2_grpc.InboxServiceStub(self.channel(service, organisation))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.ports[0]}"

    def channel(
        self, service: str = "gateway", organisation: str = "mercy", address: str = "", **more: Any
    ) -> grpc.aio.Channel:
        tls = self.consortium.tls(service, organisation)
        channel = connect(address or self.address, tls, service="notify", organisation="mercy", **more)
        self.channels.append(channel)
        return channel


Start = Callable[..., Awaitable[Net]]


async def refusal(work: Awaitable[Any]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await work
    return caught.value


@asynccontextmanager
async def slow_to_begin(address: str, seconds: float) -> AsyncIterator[str]:
    """An address that leads to another, whose connections stand still for so long before anything passes."""
    host, _, port = address.rpartition(":")

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await asyncio.sleep(seconds)
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))

    server = await asyncio.start_server(lead, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while found := await source.read(65536):
            target.write(found)
            await target.drain()
    target.close()
