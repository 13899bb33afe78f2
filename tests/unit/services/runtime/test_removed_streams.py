"""Calls whose stream ends without a word of the service: what became of them, and how it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.runtime.client import call, stream
from services.runtime.errors import MeshError, from_rpc_error, to_status
from tests.support.fakes.removed_streams import CANCEL, removing_streams
from tests.unit.services.runtime.net import refusal

ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, INTERNAL_ERROR = 0xB, 0xC, 0x2
ANY = pytest.mark.parametrize("error_code", [CANCEL, INTERNAL_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY])


@asynccontextmanager
async def service(error_code: int, after_seconds: float = 0.0) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        removing_streams(error_code, after_seconds) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@ANY
async def test_a_stream_that_is_removed_is_a_lost_answer_and_never_a_refusal(error_code: int) -> None:
    async with service(error_code) as channel:
        stub = notify_pb2_grpc.InboxServiceStub(channel)
        asked = await refusal(call(stub.List, notify_pb2.ListRequest(), deadline_seconds=60))
        followed = await refusal(anext(stream(stub.Stream, notify_pb2.StreamRequest())))

    assert asked.code == followed.code == code_pb2.CODE_UNAVAILABLE
    assert "Stream removed" not in asked.reason + followed.reason


@ANY
async def test_a_change_whose_stream_is_removed_may_have_happened(error_code: int) -> None:
    async with service(error_code) as channel:
        method = notify_pb2_grpc.InboxServiceStub(channel).Acknowledge
        request = notify_pb2.AcknowledgeRequest()
        why = await refusal(call(method, request, deadline_seconds=60, changes_state=channel))

    assert (why.code, why.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)


async def test_whoever_notices_the_deadline_first_it_is_the_deadline_that_passed() -> None:
    # The service's clock is ahead by 6 ms, so that its timer is the first, in most of the calls at least.
    async with service(CANCEL, after_seconds=0.194) as channel:
        stub = notify_pb2_grpc.InboxServiceStub(channel)
        request = notify_pb2.ListRequest()
        tries = [refusal(call(stub.List, request, deadline_seconds=0.2)) for _ in range(5)]
        told = await asyncio.gather(*tries)

    assert {one.code for one in told} == {code_pb2.CODE_DEADLINE_EXCEEDED}
    assert all("Stream removed" not in one.reason for one in told)


@pytest.mark.parametrize("code", [code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.CODE_FORBIDDEN])
def test_what_a_service_says_itself_stays_even_after_the_deadline(code: int) -> None:
    status = to_status(MeshError(code, "Stream removed, says the service"))
    said = grpc.aio.AioRpcError(
        status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), details=status.details
    )

    assert from_rpc_error(said, seconds_left=-1).code == code
