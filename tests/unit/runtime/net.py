"""A server of mercy's notify and whoever wants to call it, over real mTLS connections."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
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

    def channel(self, service: str = "gateway", organisation: str = "mercy", **more: Any) -> grpc.aio.Channel:
        tls = self.consortium.tls(service, organisation)
        address = f"127.0.0.1:{self.server.ports[0]}"
        channel = connect(address, tls, service="notify", organisation="mercy", **more)
        self.channels.append(channel)
        return channel


Start = Callable[..., Awaitable[Net]]


async def refusal(work: Awaitable[Any]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await work
    return caught.value
