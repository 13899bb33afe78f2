"""What a sender knows when a sending failed: it never left, or nobody can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from cbmdhi.client.commands import carry, submit_group
from cbmdhi.client.connection import Connection
from cbmdhi.client.records import NewRecord, Records
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import NotCommitted, NotSent, UnknownOutcome
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from services.runtime.errors import MeshError as OfService
from services.runtime.errors import to_status
from tests.support.channel import CHANNEL
from tests.support.fakes.evidence import PATIENT
from tests.support.fakes.signing_wallet import SigningWallet

Submit = Callable[[gateway_pb2.SubmitRequest], Awaitable[gateway_pb2.SubmitResponse]]


class AnsweringGateway(gateway_pb2_grpc.CommandServiceServicer, gateway_pb2_grpc.IngestServiceServicer):
    """Answers as the test says; keeps what it was sent."""

    def __init__(self, answer: Submit) -> None:
        self.answer = answer
        self.sent: list[gateway_pb2.SubmitRequest] = []

    async def Submit(self, request: Any, context: Any) -> Any:
        self.sent.append(request)
        try:
            return await self.answer(request)
        except OfService as err:
            status = to_status(err)
            await context.abort(status.code, status.details, status.trailing_metadata)

    async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            break
        await context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
        yield gateway_pb2.IngestResponse()


class Open(Connection):
    """A connection without a login."""

    def __init__(self, channel: grpc.aio.Channel, seconds: float) -> None:
        member = SimpleNamespace(tls_ca_pem="", name="mercy", gateway=None)
        super().__init__(SigningWallet(), member, seconds, first_contact=channel)  # type: ignore[arg-type]
        self._authenticated = channel

    async def metadata(self) -> tuple[tuple[str, str], ...]:
        return ()


@asynccontextmanager
async def serving(gateway: AnsweringGateway, seconds: float = 10.0) -> AsyncIterator[Open]:
    server = grpc.aio.server()
    gateway_pb2_grpc.add_CommandServiceServicer_to_server(gateway, server)
    gateway_pb2_grpc.add_IngestServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        yield Open(channel, seconds)
    finally:
        await channel.close()
        await server.stop(0)


@asynccontextmanager
async def nobody(seconds: float) -> AsyncIterator[Open]:
    with_nobody = grpc.aio.insecure_channel("127.0.0.1:1")
    yield Open(with_nobody, seconds)
    await with_nobody.close()


def group() -> pb.CommandGroup:
    return command.make_group([(SigningWallet().signer, pb.Access(patient=PATIENT))], channel=CHANNEL)


def answered(code: int, outcome: int) -> Submit:
    async def answer(_: Any) -> gateway_pb2.SubmitResponse:
        receipt = Receipt(code=code, outcome=outcome)  # type: ignore[arg-type]
        return gateway_pb2.SubmitResponse(receipts=[gateway_pb2.RecordReceipt(receipt=receipt)])

    return answer


async def test_what_never_left_says_so_and_holds_what_was_signed() -> None:
    signed = group()
    async with nobody(0.3) as connection:
        with pytest.raises(NotSent) as caught:
            await submit_group(connection, signed)

    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert caught.value.again == (gateway_pb2.SubmitRequest(group=signed),)


async def test_a_deadline_of_our_own_leaves_it_unknown_and_the_same_can_be_sent_again() -> None:
    done = answered(code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED)

    async def never(_: Any) -> Any:
        await asyncio.Event().wait()

    gateway = AnsweringGateway(done)
    async with serving(gateway, seconds=30) as connection:
        # There is a connection before the deadline is short, so that the call is what takes too long.
        await carry(connection, gateway_pb2.SubmitRequest(group=group()))
        gateway.answer, connection.deadline_seconds = never, 0.5
        with pytest.raises(UnknownOutcome) as caught:
            await submit_group(connection, group())
        (again,) = caught.value.again
        assert isinstance(again, gateway_pb2.SubmitRequest)
        gateway.answer, connection.deadline_seconds = done, 30
        (entry,) = await carry(connection, again)

    assert entry.receipt.code == code_pb2.CODE_OK
    assert gateway.sent[1] == gateway.sent[2]


_LOST = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.ABORTED,
)


class Cut(AnsweringGateway):
    """Its connection breaks once after the request was taken, as gRPC or a proxy tells it: with a status and
    no word of ours."""

    def __init__(self, status: grpc.StatusCode, breaks: int = 1) -> None:
        super().__init__(answered(code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED))
        self.status, self.breaks = status, breaks
        self.streamed: list[gateway_pb2.IngestRequest] = []

    async def Submit(self, request: Any, context: Any) -> Any:
        if len(self.sent) < self.breaks:
            self.sent.append(request)
            await context.abort(self.status, "RST_STREAM")
        return await super().Submit(request, context)

    async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.streamed.append(await anext(requests))
        if len(self.streamed) <= self.breaks:
            await context.abort(self.status, "RST_STREAM")
        item = self.streamed[-1].items[0]
        [signed] = item.group.commands
        receipt = Receipt(
            command_id=command.parse(signed)[0].command_id,
            signer=signed.signer,
            code=code_pb2.CODE_OK,
            outcome=code_pb2.OUTCOME_COMMITTED,
        )
        result = gateway_pb2.IngestResult(submission_id=item.submission_id)
        result.receipts.add().receipt.CopyFrom(receipt)
        yield gateway_pb2.IngestResponse(results=[result])


@pytest.mark.parametrize("status", _LOST, ids=lambda status: status.name)
async def test_a_line_that_broke_is_none_the_less_broken_for_the_status_that_grpc_gives_it(
    status: grpc.StatusCode,
) -> None:
    gateway = Cut(status)
    async with serving(gateway) as connection:
        (entry,) = await carry(connection, gateway_pb2.SubmitRequest(group=group()))
        assert entry.receipt.code == code_pb2.CODE_OK
        assert len(gateway.sent) == 2
        assert gateway.sent[0] == gateway.sent[1]

        records = Records(connection)
        prepared = records.prepare(NewRecord(PATIENT, b'{"resourceType":"Observation"}'))
        [written] = [written async for written in records.send([prepared])]
    assert written.ok
    assert len(gateway.streamed) == 2
    assert gateway.streamed[0] == gateway.streamed[1]


@pytest.mark.parametrize("status", _LOST, ids=lambda status: status.name)
async def test_a_line_that_goes_on_breaking_leaves_it_unknown(status: grpc.StatusCode) -> None:
    gateway = Cut(status, breaks=1000)
    async with serving(gateway, seconds=0.5) as connection:
        with pytest.raises(UnknownOutcome) as caught:
            await submit_group(connection, signed := group())
    assert caught.value.again == (gateway_pb2.SubmitRequest(group=signed),)
    assert caught.value.code in (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_DEADLINE_EXCEEDED)


async def test_a_refusal_before_any_effect_is_not_taken_for_unknown() -> None:
    async def busy(_: Any) -> Any:
        raise OfService(code_pb2.CODE_TOO_LARGE, "less at once", outcome=code_pb2.OUTCOME_NOT_DONE)

    async with serving(AnsweringGateway(busy)) as connection:
        with pytest.raises(NotSent) as caught:
            await submit_group(connection, group())

    assert caught.value.code == code_pb2.CODE_TOO_LARGE


async def test_a_sending_that_did_nothing_does_not_make_up_for_one_before_that_may_have() -> None:
    outcomes = iter([code_pb2.OUTCOME_UNKNOWN, code_pb2.OUTCOME_NOT_DONE])

    async def away(_: Any) -> Any:
        code = code_pb2.CODE_UNAVAILABLE
        raise OfService(code, "away", "", 0 if (outcome := next(outcomes)) == 3 else 60_000, outcome)

    gateway = AnsweringGateway(away)
    async with serving(gateway) as connection:
        with pytest.raises(UnknownOutcome):
            await submit_group(connection, group())
    assert len(gateway.sent) == 2


async def test_a_receipt_that_leaves_it_open_is_no_refusal() -> None:
    unknown = answered(code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)
    async with serving(AnsweringGateway(unknown)) as connection:
        with pytest.raises(UnknownOutcome):
            await submit_group(connection, group())

    # That nothing was done is the gateway's word, as with an error.
    refused = answered(code_pb2.CODE_FORBIDDEN, code_pb2.OUTCOME_NOT_DONE)
    async with serving(AnsweringGateway(refused)) as connection:
        with pytest.raises(NotCommitted):
            await submit_group(connection, group())


@pytest.mark.parametrize(("connects", "error"), [(False, NotSent), (True, UnknownOutcome)])
async def test_a_stream_that_goes_on_breaking_gives_back_what_has_no_result(
    connects: bool, error: type[NotSent | UnknownOutcome]
) -> None:
    gateway = AnsweringGateway(answered(code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED))
    async with serving(gateway, seconds=0.5) if connects else nobody(0.3) as connection:
        records = Records(connection)
        prepared = records.prepare(NewRecord(PATIENT, b'{"resourceType":"Observation"}'))
        with pytest.raises(error) as caught:
            _ = [written async for written in records.send([prepared])]

    assert caught.value.again == (prepared.item,)


class Restarted(AnsweringGateway):
    """Breaks off after it has taken the first message; then it cannot do anything, and says so."""

    def __init__(self, result: gateway_pb2.IngestResult, breaks: int) -> None:
        super().__init__(answered(code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED))
        self.result = result
        self.breaks = breaks

    async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        request = await anext(requests)
        if self.breaks:
            self.breaks -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "killed")
        item = request.items[0]
        self.result.submission_id = item.submission_id
        [signed] = item.group.commands
        for one in self.result.receipts:
            one.receipt.signer = signed.signer
            one.receipt.command_id = command.parse(signed)[0].command_id
        yield gateway_pb2.IngestResponse(results=[self.result])


_REFUSED = gateway_pb2.IngestResult(
    error=code_pb2.ErrorDetail(code=code_pb2.CODE_UNAVAILABLE, outcome=code_pb2.OUTCOME_NOT_DONE)
)
_NOT_DONE = gateway_pb2.IngestResult(
    receipts=[
        gateway_pb2.RecordReceipt(
            receipt=Receipt(code=code_pb2.CODE_UNAVAILABLE, outcome=code_pb2.OUTCOME_NOT_DONE)
        )
    ]
)


@pytest.mark.parametrize(("breaks", "outcome"), [(0, "OUTCOME_NOT_DONE"), (1, "OUTCOME_UNKNOWN")])
@pytest.mark.parametrize("result", [_REFUSED, _NOT_DONE])
async def test_what_is_sent_again_after_a_break_is_not_said_to_be_undone(
    result: gateway_pb2.IngestResult, breaks: int, outcome: str
) -> None:
    async with serving(Restarted(result, breaks)) as connection:
        records = Records(connection)
        prepared = records.prepare(NewRecord(PATIENT, b'{"resourceType":"Observation"}'))
        [written] = [written async for written in records.send([prepared])]

    assert written.error is not None
    assert code_pb2.Outcome.Name(written.error.outcome) == outcome
    if breaks or result.HasField("error"):
        assert isinstance(written.error, UnknownOutcome if breaks else NotSent)
        assert written.error.again == (prepared.item,)
    else:
        assert isinstance(written.error, NotCommitted)
