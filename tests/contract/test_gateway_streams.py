"""Streams over real connections: a window that holds, and an end that comes in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.gateway.v1.gateway_pb2 import Content, IngestItem, IngestRequest
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from tests.contract.gateway_calls import (
    ENGINE,
    PATIENT,
    collected,
    ingest,
    refusal,
    results_of,
    sent,
    submission,
)
from tests.contract.gateway_member import Member, running_member
from tests.support.fakes.gateway_people import put
from tests.support.waiting import until

pytest_plugins = ("tests.contract.gateway_fixtures",)


async def test_an_engine_sends_a_stream_and_gets_a_receipt_for_each(member: Member) -> None:
    caller = member.session(ENGINE)
    wanted = [submission(f"s{number}") for number in range(30)]

    results = [result async for result in results_of(ingest(caller, sent(*wanted)))]

    assert sorted(r.submission_id for r in results) == sorted(r.submission_id for r in wanted)
    assert all(r.receipts[0].receipt.code == code_pb2.CODE_OK for r in results)
    assert len(member.storage.stored) == 30


async def test_http2_stops_a_sender_whose_window_is_full(tmp_path: Path) -> None:
    async with running_member(tmp_path, in_flight_per_stream=5) as member:
        member.ledger.register(ENGINE, PATIENT)
        member.ledger.hold.clear()
        taken, taken_at = 0, 0.0

        async def requests() -> AsyncIterator[IngestRequest]:
            nonlocal taken, taken_at
            large = {"resourceType": "Basic", "code": {"text": "x" * 200_000}}
            for number in range(100):
                one = put(ENGINE, PATIENT, large)
                taken, taken_at = taken + 1, time.monotonic()
                item = IngestItem(submission_id=f"s{number}", group=one.group, contents=one.contents)
                yield IngestRequest(items=[item])

        call = ingest(member.session(ENGINE), requests())
        results = asyncio.ensure_future(collected(results_of(call)))
        await until(lambda: member.storage.sealed_items == 5, "the window is full")
        await until(lambda: time.monotonic() - taken_at > 0.5, "the transport's buffers are full", seconds=20)
        assert taken < 12
        assert member.storage.sealed_items == 5

        member.ledger.hold.set()
        assert len(await results) == 100


async def test_oversize_is_refused_with_the_limit_and_the_stream_goes_on(member: Member) -> None:
    large = IngestItem(submission_id="large", contents=[Content(content=bytes(17 * 1024 * 1024))])

    call = ingest(member.session(ENGINE), sent(large, submission("b")))
    results = {r.submission_id: r async for r in results_of(call)}

    assert results["large"].error.code == code_pb2.CODE_TOO_LARGE
    assert "16 MiB" in results["large"].error.reason
    assert results["b"].receipts[0].receipt.code == code_pb2.CODE_OK


async def test_far_too_large_ends_the_stream_with_too_large(member: Member) -> None:
    large = IngestItem(submission_id="large", contents=[Content(content=bytes(33 * 1024 * 1024))])

    assert (await refusal(collected(ingest(member.session(ENGINE), sent(large)))))[0] == "TOO_LARGE"


async def test_bytes_that_are_no_message_are_invalid_and_not_an_internal_fault(member: Member) -> None:
    caller = member.session(ENGINE)
    raw = caller.channel.unary_unary("/cbmdhi.gateway.v1.CommandService/Submit")
    stream = caller.channel.stream_stream("/cbmdhi.gateway.v1.IngestService/Ingest")

    assert await refusal(raw(b"\xff\xff", metadata=caller.metadata)) == ("INVALID", "")

    async def requests() -> AsyncIterator[bytes]:
        yield b"\xff\xff"
        yield IngestRequest(items=[submission("b")]).SerializeToString()

    answers = [
        gateway_pb2.IngestResponse.FromString(one)
        async for one in stream(requests(), metadata=caller.metadata)
    ]
    results = [result for answer in answers for result in answer.results]
    codes = {one.submission_id: one.error.code or one.receipts[0].receipt.code for one in results}
    assert codes == {"": code_pb2.CODE_INVALID, "b": code_pb2.CODE_OK}


async def test_a_suspended_engine_is_cut_off_mid_stream_within_five_seconds(member: Member) -> None:
    finish = asyncio.Event()
    call = ingest(member.session(ENGINE), sent(submission("a"), until_set=finish))
    first = await call.read()
    assert first.results[0].receipts[0].receipt.code == code_pb2.CODE_OK

    member.ledger.suspend(ENGINE)
    started = time.monotonic()

    assert (await refusal(call.read()))[0] == "INACTIVE_SIGNER"
    assert time.monotonic() - started < 5
    finish.set()


async def test_an_engine_whose_certificate_is_revoked_is_cut_off_mid_stream_and_refused_after_that(
    member: Member,
) -> None:
    caller, finish = member.session(ENGINE), asyncio.Event()
    call = ingest(caller, sent(submission("a"), until_set=finish))
    first = await call.read()
    assert first.results[0].receipts[0].receipt.code == code_pb2.CODE_OK

    # Any certificate of the address: all are for one key.
    member.revocations.revoked["MercyMSP"].append(member.identity_ca.issue(ENGINE))
    started = time.monotonic()

    assert (await refusal(call.read()))[0] == "INACTIVE_SIGNER"
    assert time.monotonic() - started < 5
    finish.set()
    submit = gateway_pb2_grpc.CommandServiceStub(caller.channel).Submit
    assert (await refusal(submit(gateway_pb2.SubmitRequest(), metadata=caller.metadata)))[
        0
    ] == "INACTIVE_SIGNER"


async def test_another_members_ca_revokes_nobody_of_this_one(member: Member) -> None:
    caller = member.session(PATIENT, "patient")
    stub = notify_pb2_grpc.InboxServiceStub(caller.channel)
    certificate = member.other_identity_ca.issue(PATIENT)
    passed_on = member.revocations

    passed_on.revoked["LakesideMSP"].append(certificate)
    await until(lambda: passed_on.asked_since(certificate) > 1, "the gateway has the list")

    assert await stub.List(notify_pb2.ListRequest(), metadata=caller.metadata) is not None


async def test_a_suspended_reader_is_cut_off_from_notifications_and_the_service_hears_it(
    member: Member,
) -> None:
    caller = member.session(PATIENT, "patient")
    stub = notify_pb2_grpc.InboxServiceStub(caller.channel)
    call = stub.Stream(notify_pb2.StreamRequest(), metadata=caller.metadata)
    assert (await call.read()).notification.notification_id == 1
    assert member.inbox.open == 1

    member.ledger.suspend(PATIENT)

    async def drain() -> None:
        while True:
            assert await call.read() is not grpc.aio.EOF

    assert (await refusal(drain()))[0] == "INACTIVE_SIGNER"
    await until(lambda: member.inbox.open == 0, "the stream behind it is closed")


async def test_an_open_stream_ends_with_its_token(member: Member) -> None:
    now = int(time.time())
    call = ingest(member.session(ENGINE, exp=now + 3), sent(until_set=asyncio.Event()))

    assert (await refusal(call.read()))[0] == "UNAUTHENTICATED"
