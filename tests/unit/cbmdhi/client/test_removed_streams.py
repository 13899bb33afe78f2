"""Streams that end without a word of the gateway: what its user is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from cbmdhi.client.commands import submit_group
from cbmdhi.client.connection import connected
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import UnknownOutcome, from_rpc
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from tests.support.fakes.removed_streams import CANCEL, removing_streams
from tests.unit.cbmdhi.client.test_outcomes import Open, group

ENHANCE_YOUR_CALM, INADEQUATE_SECURITY = 0xB, 0xC


@asynccontextmanager
async def gateway(error_code: int, after_seconds: float, deadline_seconds: float) -> AsyncIterator[Open]:
    async with (
        removing_streams(error_code, after_seconds) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await connected(channel, 60)
        yield Open(channel, deadline_seconds)


async def fate(connection: Open, signed: pb.CommandGroup) -> UnknownOutcome:
    with pytest.raises(UnknownOutcome) as caught:
        await submit_group(connection, signed)
    assert "Stream removed" not in caught.value.reason
    return caught.value


async def test_whoever_notices_the_deadline_first_it_is_the_deadline_that_passed() -> None:
    # The gateway's clock is ahead by 6 ms, so that its timer is the first, in most of the calls at least.
    groups = [group() for _ in range(5)]
    async with gateway(CANCEL, after_seconds=0.194, deadline_seconds=0.2) as connection:
        told = await asyncio.gather(*(fate(connection, signed) for signed in groups))

    assert {one.code for one in told} == {code_pb2.CODE_DEADLINE_EXCEEDED}


@pytest.mark.parametrize("error_code", [CANCEL, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY])
async def test_a_stream_that_is_removed_is_a_lost_answer_and_never_a_refusal(error_code: int) -> None:
    async with gateway(error_code, after_seconds=0, deadline_seconds=60) as connection:
        stub = gateway_pb2_grpc.CommandServiceStub(connection.authenticated)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Submit(gateway_pb2.SubmitRequest(), timeout=60)
    ours = from_rpc(caught.value, seconds_left=50)
    assert (ours.code, ours.outcome) == (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_UNKNOWN)
    assert "Stream removed" not in ours.reason
