"""Who is calling, and who is answering."""

from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.runtime.callers import (
    Caller,
    PeerDirectory,
    caller_metadata,
    caller_of,
    peer_of,
    require_peer,
)
from services.runtime.client import call, connect
from services.runtime.errors import MeshError
from tests.support.pki import Consortium
from tests.unit.services.runtime.net import Start, refusal


async def test_the_server_knows_which_service_of_which_member_calls(start: Start) -> None:
    seen: list[tuple[str, str]] = []

    async def on_list(_: Any, context: Any) -> notify_pb2.ListResponse:
        peer = peer_of(context)
        seen.append((peer.msp_id, peer.service))
        return notify_pb2.ListResponse()

    net = await start(on_list)
    await call(net.stub("gateway").List, notify_pb2.ListRequest(), deadline_seconds=5)
    await call(net.stub("storage", "lakeside").List, notify_pb2.ListRequest(), deadline_seconds=5)

    assert seen == [("MercyMSP", "gateway"), ("LakesideMSP", "storage")]


async def test_only_the_named_services_of_the_own_member_are_admitted(start: Start) -> None:
    async def on_list(_: Any, context: Any) -> notify_pb2.ListResponse:
        require_peer(context, services={"gateway"})
        return notify_pb2.ListResponse()

    net = await start(on_list)
    await call(net.stub("gateway").List, notify_pb2.ListRequest(), deadline_seconds=5)
    other_service = await refusal(
        call(net.stub("storage").List, notify_pb2.ListRequest(), deadline_seconds=5)
    )
    other_member = await refusal(
        call(net.stub("gateway", "lakeside").List, notify_pb2.ListRequest(), deadline_seconds=5)
    )

    assert other_service.code == code_pb2.CODE_FORBIDDEN
    assert other_member.code == code_pb2.CODE_FORBIDDEN
    assert "gateway of LakesideMSP" in other_member.reason


async def test_an_end_user_is_believed_from_the_own_gateway_alone(start: Start) -> None:
    seen: list[Caller] = []

    async def on_list(_: Any, context: Any) -> notify_pb2.ListResponse:
        seen.append(caller_of(context))
        return notify_pb2.ListResponse()

    net = await start(on_list)
    user = Caller("cb1" + "a" * 32, "patient", "MercyMSP")

    async def ask(service: str, organisation: str, metadata: Any) -> Any:
        stub = net.stub(service, organisation)
        return await call(stub.List, notify_pb2.ListRequest(), deadline_seconds=20, metadata=metadata)

    await ask("gateway", "mercy", caller_metadata(user))
    forged = await refusal(ask("gateway", "lakeside", caller_metadata(user)))
    nobody = await refusal(ask("gateway", "mercy", None))

    assert seen == [user]
    assert forged.code == code_pb2.CODE_FORBIDDEN
    assert nobody.code == code_pb2.CODE_UNAUTHENTICATED


async def test_a_stranger_without_a_members_certificate_gets_no_connection(
    start: Start, tmp_path: Any
) -> None:
    net = await start()
    strangers = Consortium(tmp_path / "strangers")
    tls = strangers.tls("gateway").model_copy(update={"members": net.consortium.tls("x").members})
    channel = connect(f"127.0.0.1:{net.server.ports[0]}", tls, service="notify", organisation="mercy")
    net.channels.append(channel)

    err = await refusal(
        call(notify_pb2_grpc.InboxServiceStub(channel).List, notify_pb2.ListRequest(), deadline_seconds=5)
    )

    assert err.code == code_pb2.CODE_UNAVAILABLE
    assert net.inbox.calls == 0


async def test_another_members_certificate_cannot_pose_as_our_service(start: Start) -> None:
    net = await start()

    channel = net.channel(msp_id="LakesideMSP")
    err = await refusal(
        call(notify_pb2_grpc.InboxServiceStub(channel).List, notify_pb2.ListRequest(), deadline_seconds=5)
    )

    assert err.code == code_pb2.CODE_UNAVAILABLE
    assert net.inbox.calls == 0


async def test_members_that_share_a_root_are_refused_at_the_start(consortium: Consortium) -> None:
    tls = consortium.tls("notify")
    shared = tls.members[0].model_copy(update={"msp_id": "LakesideMSP"})

    with pytest.raises(MeshError) as caught:
        PeerDirectory.of("MercyMSP", tls.model_copy(update={"members": (tls.members[0], shared)}))

    assert "share" in caught.value.reason
