from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.notify.v1 import notify_pb2_grpc
from services.runtime.config import ServiceConfig
from services.runtime.lifecycle import Lifecycle
from services.runtime.server import GrpcServer
from tests.support.pki import Consortium
from tests.unit.services.runtime.net import Handler, Inbox, Net, Start, nothing


class InboxLike(ServiceConfig):
    service_name = "notify"


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path / "pki")


@pytest.fixture
def make_config(consortium: Consortium) -> Callable[..., InboxLike]:
    def make(**changes: object) -> InboxLike:
        values: dict[str, object] = {
            "organisation": "mercy",
            "msp_id": "MercyMSP",
            "channel": "cbmdhi",
            "listen_address": "127.0.0.1:0",
            "metrics_address": "127.0.0.1:0",
            "drain_seconds": 2.0,
            "tls": consortium.tls("notify"),
        }
        return InboxLike.model_validate(values | changes)

    return make


@pytest.fixture
async def life(make_config: Callable[..., InboxLike]) -> AsyncIterator[Lifecycle]:
    life = Lifecycle(make_config())
    yield life
    await life.close()


@pytest.fixture
async def start(
    consortium: Consortium, make_config: Callable[..., Any], life: Lifecycle
) -> AsyncIterator[Start]:
    nets: list[Net] = []

    async def start(on_list: Handler = nothing, **options: Any) -> Net:
        inbox = Inbox(on_list, options.pop("on_stream", None))
        server = GrpcServer(make_config(), life, **options)
        server.add(notify_pb2_grpc.add_InboxServiceServicer_to_server, inbox)
        await server.start()
        nets.append(Net(consortium, server, inbox))
        return nets[-1]

    yield start
    for net in nets:
        for channel in net.channels:
            await channel.close()
        await net.server.stop(0.5)
