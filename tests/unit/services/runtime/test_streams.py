"""Streams, and the server from its start to its end."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.runtime import server
from services.runtime.client import call, stream
from services.runtime.errors import MeshError
from services.runtime.lifecycle import Lifecycle
from services.runtime.server import GrpcServer
from tests.support.waiting import until
from tests.unit.services.runtime.net import Net, Start, refusal


async def test_a_stream_carries_answers_and_then_its_error(start: Start) -> None:
    async def on_stream(_: Any, __: Any) -> AsyncIterator[Any]:
        yield notify_pb2.StreamResponse()
        raise MeshError(code_pb2.CODE_RESOURCE_EXHAUSTED, "too slow", retry_after_ms=5)

    net = await start(on_stream=on_stream)
    got: list[Any] = []

    async def read() -> None:
        async for answer in stream(net.stub().Stream, notify_pb2.StreamRequest()):
            got.append(answer)

    err = await refusal(read())

    assert len(got) == 1
    assert (err.code, err.retry_after_ms) == (code_pb2.CODE_RESOURCE_EXHAUSTED, 5)


async def test_a_stream_that_its_reader_leaves_is_closed_on_the_server(start: Start) -> None:
    closed = asyncio.Event()
    tasks: set[object] = set()

    async def on_stream(_: Any, __: Any) -> AsyncIterator[Any]:
        tasks.add(asyncio.current_task())
        try:
            while True:
                yield notify_pb2.StreamResponse()
        finally:
            tasks.add(asyncio.current_task())
            closed.set()

    net = await start(on_stream=on_stream)
    async with aclosing(stream(net.stub().Stream, notify_pb2.StreamRequest())) as answers:
        await anext(answers)

    await asyncio.wait_for(closed.wait(), 5)
    assert len(tasks) == 1, "closed by the garbage collector instead"


async def test_health_follows_readiness_and_says_not_serving_before_and_after(
    start: Start, life: Lifecycle
) -> None:
    broken: list[str] = []

    async def check() -> str | None:
        return broken[0] if broken else None

    life.readiness.add("ledger", check)
    net = await start()
    health = health_pb2_grpc.HealthStub(net.channel())

    async def status() -> int:
        request = health_pb2.HealthCheckRequest(service="cbmdhi.notify.v1.InboxService")
        return (await health.Check(request, timeout=5)).status

    assert await status() == health_pb2.HealthCheckResponse.NOT_SERVING
    life.readiness.set_state("ready")
    await until(lambda: is_(status, health_pb2.HealthCheckResponse.SERVING), "serving when ready")
    broken.append("the ledger does not answer")
    await until(lambda: is_(status, health_pb2.HealthCheckResponse.NOT_SERVING), "not serving when broken")
    broken.clear()
    await until(lambda: is_(status, health_pb2.HealthCheckResponse.SERVING), "serving when mended")


async def is_(status: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await status() == wanted


async def test_a_call_that_runs_when_the_server_stops_is_still_answered(start: Start) -> None:
    running, may_end = asyncio.Event(), asyncio.Event()

    async def on_list(_: Any, __: Any) -> notify_pb2.ListResponse:
        running.set()
        await may_end.wait()
        return notify_pb2.ListResponse(next_page_token="answered")

    net = await start(on_list)
    answer = asyncio.create_task(call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=10))
    await running.wait()
    stopping = asyncio.create_task(net.server.stop(5))
    err = await refusal(eventually_refused(net))
    may_end.set()
    await stopping

    assert (await answer).next_page_token == "answered"
    assert err.code == code_pb2.CODE_UNAVAILABLE


async def eventually_refused(net: Net) -> None:
    """Call over new connections until the draining server refuses."""
    for _ in range(200):
        await call(
            notify_pb2_grpc.InboxServiceStub(net.channel()).Acknowledge,
            notify_pb2.AcknowledgeRequest(),
            deadline_seconds=2,
        )


async def test_a_taken_port_is_told_with_its_address(
    start: Start, make_config: Callable[..., Any], life: Lifecycle
) -> None:
    net = await start()
    address = f"127.0.0.1:{net.server.ports[0]}"

    err = await refusal(GrpcServer(make_config(listen_address=address), life).start())

    assert address in err.reason


async def test_rpcs_are_counted_by_method_and_outcome(start: Start, life: Lifecycle) -> None:
    async def on_list(request: Any, _: Any) -> notify_pb2.ListResponse:
        if request.page_size:
            raise MeshError(code_pb2.CODE_INVALID, "no")
        return notify_pb2.ListResponse()

    net = await start(on_list)
    stub = net.stub()
    await call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5)
    await refusal(call(stub.List, notify_pb2.ListRequest(page_size=1), deadline_seconds=5))

    def count(code: str) -> float | None:
        labels = {"method": "/cbmdhi.notify.v1.InboxService/List", "code": code}
        return life.metrics.registry.get_sample_value("cbmdhi_notify_rpc_requests_total", labels)

    await until(lambda: count("OK") == 1 and count("INVALID") == 1, "both counted")


async def test_whoever_connects_and_says_nothing_is_not_kept(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = {"grpc.server_handshake_timeout_ms": 500, "grpc.max_allowed_incoming_connections": 3}
    options = tuple((name, shorter.get(name, value)) for name, value in server._OPTIONS)
    monkeypatch.setattr(server, "_OPTIONS", options)
    net = await start()
    host, _, port = net.address.partition(":")

    silent = [await asyncio.open_connection(host, int(port)) for _ in range(6)]
    ends = await asyncio.wait_for(asyncio.gather(*(_ended(reader) for reader, _ in silent)), 10)
    for _, writer in silent:
        writer.close()

    assert ends == [True] * 6
    await net.stub().List(notify_pb2.ListRequest(), timeout=5)


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        while await reader.read(1_000):
            pass
    except ConnectionError:
        pass
    return True
