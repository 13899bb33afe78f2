"""Calls: errors, limits, deadlines, retries, traces."""

import asyncio
import socket
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry import trace

from cbmdhi.command.v1 import code_pb2
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.gateway.rpc.forward import RawMessage
from services.runtime import telemetry, tracing
from services.runtime.client import RetryBudget, call, stream
from services.runtime.deadline import remaining_seconds
from services.runtime.errors import MeshError
from tests.unit.services.runtime.net import Net, Start, nothing, refusal, slow_to_begin


async def test_an_error_arrives_whole_and_a_fault_arrives_without_its_text(start: Start) -> None:
    async def on_list(request: Any, _: Any) -> notify_pb2.ListResponse:
        if request.page_size:
            raise MeshError(code_pb2.CODE_INVALID, "ask for at most 500", "page_size")
        raise RuntimeError("Jane Doe")

    net = await start(on_list)
    stub = net.stub()
    invalid = await refusal(call(stub.List, notify_pb2.ListRequest(page_size=9), deadline_seconds=5))
    fault = await refusal(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5))

    assert (invalid.code, invalid.path) == (code_pb2.CODE_INVALID, "page_size")
    assert fault.code == code_pb2.CODE_INTERNAL
    assert "Jane" not in fault.reason
    assert "trace id" in fault.reason


async def test_bytes_that_are_no_message_are_the_callers_fault_and_nothing_is_done(start: Start) -> None:
    net = await start(nothing)
    channel = net.channel()
    kinds = {"List": channel.unary_unary, "Stream": channel.unary_stream}
    with structlog.testing.capture_logs() as logs:
        for name, kind in kinds.items():
            method = kind(f"/cbmdhi.notify.v1.InboxService/{name}", request_serializer=RawMessage.serialize)
            raw = RawMessage(b"\xff\xff\xff")
            if name == "Stream":
                why = await refusal(anext(stream(method, raw)))
            else:
                why = await refusal(call(method, raw, deadline_seconds=5, changes_state=channel))
            assert (why.code, why.outcome) == (code_pb2.CODE_INVALID, code_pb2.OUTCOME_NOT_DONE)
    assert net.inbox.calls == 0
    assert not [log for log in logs if log["log_level"] == "error"]


async def test_a_message_over_the_limit_is_refused_with_the_limit(start: Start) -> None:
    net = await start(max_message_bytes=1000)
    channel = net.channel()
    stub = notify_pb2_grpc.InboxServiceStub(channel)

    just_over = await refusal(
        call(stub.List, notify_pb2.ListRequest(page_token="x" * 1100), deadline_seconds=5)
    )
    far_over = await refusal(
        call(stub.List, notify_pb2.ListRequest(page_token="x" * 200_000), deadline_seconds=5)
    )
    before_sending = await refusal(
        call(
            stub.List,
            notify_pb2.ListRequest(page_token="x" * 200_000),
            deadline_seconds=5,
            max_message_bytes=1000,
        )
    )

    assert {just_over.code, far_over.code, before_sending.code} == {code_pb2.CODE_TOO_LARGE}
    assert "1000" in just_over.reason
    assert "1000" in before_sending.reason
    assert net.inbox.calls == 0


async def test_a_server_that_is_slow_to_shake_hands_is_reached_at_the_first_attempt(start: Start) -> None:
    net = await start(nothing)
    async with slow_to_begin(net.address, seconds=0.7) as address:
        stub = notify_pb2_grpc.InboxServiceStub(net.channel(address=address))
        await call(stub.List, notify_pb2.ListRequest(), deadline_seconds=10)
    assert net.inbox.calls == 1


async def test_a_call_without_a_deadline_gets_the_servers(start: Start) -> None:
    cut_off = asyncio.Event()

    async def on_list(_: Any, __: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    net = await start(on_list, default_deadline_seconds=0.1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await net.stub().List(notify_pb2.ListRequest())

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert cut_off.is_set()


async def test_a_handler_sees_the_callers_deadline_and_so_do_calls_it_makes(start: Start) -> None:
    seen: list[float | None] = []

    async def on_list(_: Any, __: Any) -> notify_pb2.ListResponse:
        seen.append(remaining_seconds())
        return notify_pb2.ListResponse()

    net = await start(on_list)
    await call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=7)

    assert seen[0] is not None
    assert 5 < seen[0] <= 7


async def test_a_busy_service_is_asked_again_until_it_answers(start: Start) -> None:
    answers = iter([code_pb2.CODE_RESOURCE_EXHAUSTED, code_pb2.CODE_UNAVAILABLE])

    async def on_list(_: Any, __: Any) -> notify_pb2.ListResponse:
        code = next(answers, None)
        if code:
            raise MeshError(code, "not now", retry_after_ms=1)
        return notify_pb2.ListResponse(next_page_token="done")

    net = await start(on_list)
    answer = await call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=5, retries=RetryBudget())

    assert answer.next_page_token == "done"
    assert net.inbox.calls == 3


async def test_retries_end_with_the_budget_and_a_refusal_is_never_retried(start: Start) -> None:
    code = code_pb2.CODE_UNAVAILABLE

    async def on_list(_: Any, __: Any) -> Any:
        raise MeshError(code, "no")

    net = await start(on_list)
    stub = net.stub()
    budget = RetryBudget(tokens=2)
    await refusal(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5, retries=budget))
    assert net.inbox.calls == 3
    await refusal(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5, retries=budget))
    assert net.inbox.calls == 4

    code = code_pb2.CODE_FORBIDDEN
    await refusal(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5, retries=RetryBudget()))
    assert net.inbox.calls == 5


async def never(_: Any, __: Any) -> Any:
    await asyncio.Event().wait()


async def change(net: Net, seconds: float = 10, address: str = "", **more: Any) -> MeshError:
    """What a call that changes something comes to."""
    channel = net.channel(address=address)
    stub = notify_pb2_grpc.InboxServiceStub(channel)
    work = call(stub.List, notify_pb2.ListRequest(), deadline_seconds=seconds, changes_state=channel, **more)
    return await refusal(work)


async def test_a_lost_answer_of_a_change_is_unknown_not_failed(start: Start) -> None:
    err = await change(await start(never), 0.5)

    assert (err.code, err.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)


async def test_a_connection_that_breaks_under_a_change_leaves_it_unknown(start: Start) -> None:
    asked = asyncio.Event()

    async def on_list(_: Any, __: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    net = await start(on_list)
    async with slow_to_begin(net.address, seconds=0) as address:
        working = asyncio.create_task(change(net, address=address))
        await asked.wait()
        await net.server.stop(0)
        err = await working

    assert (err.code, err.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)


async def test_a_change_that_nobody_listens_to_was_certainly_not_done(start: Start) -> None:
    net = await start(nothing)
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        refused = await change(net, address=f"127.0.0.1:{unheard.getsockname()[1]}")
    unnamed = await change(net, address="no-such-host.invalid:1")

    for err in (refused, unnamed):
        assert (err.code, err.outcome) == (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_NOT_DONE)


async def test_a_change_whose_deadline_ends_before_there_is_a_connection_was_not_done(start: Start) -> None:
    net = await start(nothing)
    async with slow_to_begin(net.address, seconds=30) as address:
        err = await change(net, 0.2, address=address)

    assert (err.code, err.outcome) == (code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.OUTCOME_NOT_DONE)
    assert net.inbox.calls == 0


async def test_what_the_service_says_of_the_outcome_is_heard(start: Start) -> None:
    code, outcome = code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.OUTCOME_NOT_DONE

    async def on_list(_: Any, __: Any) -> Any:
        raise MeshError(code, "too late", outcome=outcome)

    net = await start(on_list)
    certain = await change(net)
    outcome = code_pb2.OUTCOME_UNKNOWN
    uncertain = await change(net)

    assert (certain.code, certain.nothing_done) == (code_pb2.CODE_DEADLINE_EXCEEDED, True)
    assert (uncertain.code, uncertain.nothing_done) == (code_pb2.CODE_UNKNOWN_OUTCOME, False)


async def test_an_attempt_that_did_nothing_does_not_make_up_for_one_that_may_have(start: Start) -> None:
    outcomes = iter([code_pb2.OUTCOME_UNKNOWN, code_pb2.OUTCOME_NOT_DONE])

    async def on_list(_: Any, __: Any) -> Any:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "not now", "", 1, next(outcomes))

    net = await start(on_list)
    err = await change(net, retries=RetryBudget(tokens=1))

    assert net.inbox.calls == 2
    assert (err.code, err.outcome) == (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_UNKNOWN)


async def test_more_calls_than_the_server_has_room_for_are_refused_and_later_taken(start: Start) -> None:
    may_end, running = asyncio.Event(), asyncio.Event()

    async def on_list(_: Any, __: Any) -> notify_pb2.ListResponse:
        running.set()
        await may_end.wait()
        return notify_pb2.ListResponse()

    net = await start(on_list, max_running=1)
    stub = net.stub()
    first = asyncio.create_task(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5))
    await running.wait()
    err = await refusal(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5))
    may_end.set()
    await first
    await call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5)

    assert err.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert err.retry_after_ms > 0


async def test_idle_streams_take_no_room_of_calls_that_are_answered_in_a_moment(start: Start) -> None:
    opened = asyncio.Event()

    async def idle(_: Any, __: Any) -> Any:
        opened.set()
        await asyncio.Event().wait()
        yield notify_pb2.StreamResponse()

    net = await start(nothing, on_stream=idle, max_running=1)
    stub = net.stub()
    streams = [stub.Stream(notify_pb2.StreamRequest())]
    reading = asyncio.ensure_future(streams[0].read())
    await opened.wait()
    await call(stub.List, notify_pb2.ListRequest(), deadline_seconds=5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Stream(notify_pb2.StreamRequest()).read()
    streams[0].cancel()
    await asyncio.wait([reading])

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_one_address_cannot_have_all_the_room(start: Start) -> None:
    may_end, running = asyncio.Event(), asyncio.Event()

    async def on_list(_: Any, __: Any) -> notify_pb2.ListResponse:
        running.set()
        await may_end.wait()
        return notify_pb2.ListResponse()

    net = await start(on_list, max_running_per_source=1)
    first = asyncio.create_task(call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=5))
    await running.wait()
    # Another connection of the same address.
    err = await refusal(call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=5))
    may_end.set()
    await first
    await call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=5)

    assert (err.code, err.nothing_done) == (code_pb2.CODE_RESOURCE_EXHAUSTED, True)
    assert "this address" in err.reason


async def test_a_trace_goes_on_in_the_server(start: Start) -> None:
    telemetry.configure("notify")
    seen: list[int] = []

    async def on_list(_: Any, __: Any) -> notify_pb2.ListResponse:
        seen.append(trace.get_current_span().get_span_context().trace_id)
        return notify_pb2.ListResponse()

    net = await start(on_list)
    with tracing.span("outer") as span:
        await call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=5)

    assert seen == [span.context.trace_id]
