"""Streams that end without a word of the peer: what the client makes of the status that grpcio guesses."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc
import pytest

import fabric_gateway as fabric
from fabric_gateway import _protos as protos
from tests.support.fakes.removed_streams import CANCEL, removing_streams

INADEQUATE_SECURITY = 0xC
INTERNAL_ERROR = 0x2
TRIES = 5


@asynccontextmanager
async def gateway(error_code: int, after_seconds: float = 0.0) -> AsyncIterator[fabric.Gateway]:
    identity = fabric.Identity("MercyMSP", b"certificate")
    async with (
        removing_streams(error_code, after_seconds) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield fabric.Gateway(channel, identity, lambda digest: digest)


async def fate(gateway: fabric.Gateway, wait_seconds: float) -> grpc.StatusCode:
    with pytest.raises(fabric.CommitStatusError) as failure:
        await gateway.network("records").commit("ab" * 32).status(wait_seconds)
    return failure.value.status


async def test_whoever_notices_the_deadline_first_it_is_the_deadline_that_passed() -> None:
    # The peer's clock is ahead by 6 ms, so that its timer is the first, in most of the calls at least.
    async with gateway(CANCEL, after_seconds=0.194) as slow:
        told = await asyncio.gather(*(fate(slow, 0.2) for _ in range(TRIES)))

    assert set(told) == {grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.parametrize("error_code", [CANCEL, INTERNAL_ERROR, INADEQUATE_SECURITY])
async def test_a_stream_that_is_removed_before_the_deadline_is_lost_and_no_refusal(error_code: int) -> None:
    async with gateway(error_code) as cut:
        assert await fate(cut, 60) is grpc.StatusCode.UNAVAILABLE


async def test_a_submission_whose_stream_is_removed_may_have_happened() -> None:
    header = protos.common.Header(
        channel_header=protos.common.ChannelHeader(channel_id="records").SerializeToString()
    )
    envelope = protos.common.Envelope(payload=protos.common.Payload(header=header).SerializeToString())
    prepared = protos.gateway.PreparedTransaction(transaction_id="ab" * 32, envelope=envelope)
    async with gateway(INADEQUATE_SECURITY) as cut:
        transaction = cut.transaction(prepared.SerializeToString())
        with pytest.raises(fabric.SubmitError) as failure:
            await transaction.submit()

    assert failure.value.may_have_happened


async def test_events_go_on_after_a_stream_that_was_removed_with_a_code_like_a_refusal() -> None:
    lost: asyncio.Queue[grpc.StatusCode] = asyncio.Queue()
    reconnect = fabric.Reconnect(first_delay_seconds=0.01, on_lost=lost.put_nowait)
    async with gateway(INADEQUATE_SECURITY) as cut:
        network = cut.network("records")
        async with aclosing(network.chaincode_events("records", fabric.Checkpoint(1), reconnect)) as events:
            waiting = asyncio.ensure_future(anext(events))
            twice = asyncio.gather(lost.get(), lost.get())
            await asyncio.wait((waiting, twice), return_when=asyncio.FIRST_COMPLETED)
            assert not waiting.done()
            assert set(await twice) == {grpc.StatusCode.UNAVAILABLE}
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
