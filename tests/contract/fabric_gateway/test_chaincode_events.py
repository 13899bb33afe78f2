"""Events of a chaincode, from a real peer: in order, from a checkpoint on, over its death."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import grpc
import pytest

import fabric_gateway as fabric
from ops.devnet import Network
from tests.contract.fabric_gateway.peer import BOTH, Client, registration_of_a_stranger
from tests.support.waiting import until

CHAINCODE = "cbmdhi"
# Fabric's own, which sets no events.
QUIET = "_lifecycle"


async def take(stream: AsyncGenerator[fabric.ChaincodeEvent], count: int) -> list[fabric.ChaincodeEvent]:
    found: list[fabric.ChaincodeEvent] = []
    async with asyncio.timeout(20), aclosing(stream):
        async for event in stream:
            found.append(event)
            if len(found) == count:
                break
    return found


async def submitted(client: Client, network: Network) -> fabric.CommitStatus:
    """One more transaction that sets an event."""
    argument = registration_of_a_stranger(network)
    transaction = await client.contract.propose("process", argument, organisations=BOTH).endorse()
    return await (await transaction.submit()).confirm()


async def test_events_come_in_the_order_of_the_transactions_that_set_them(
    client: Client, network: Network
) -> None:
    start = fabric.Checkpoint((await client.network.chain_info()).height)
    done = [await submitted(client, network) for _ in range(3)]

    events = await take(client.network.chaincode_events(CHAINCODE, start), 3)

    assert [event.transaction_id for event in events] == [status.transaction_id for status in done]
    assert [event.block_number for event in events] == [status.block_number for status in done]
    assert {event.chaincode for event in events} == {CHAINCODE}
    assert all(event.name for event in events)


async def test_a_reader_that_stopped_goes_on_behind_what_it_handled_last(
    client: Client, network: Network, tmp_path: Path
) -> None:
    kept = fabric.CheckpointFile(tmp_path / "checkpoint.json")
    assert kept.load() is None
    kept.save(fabric.Checkpoint((await client.network.chain_info()).height))
    # Submitted at once, they share blocks: the place behind one of them is in the middle of a block.
    proposals = [
        client.contract.propose("process", registration_of_a_stranger(network), organisations=BOTH)
        for _ in range(4)
    ]
    endorsed = [await proposal.endorse() for proposal in proposals]
    commits = await asyncio.gather(*(transaction.submit() for transaction in endorsed))
    done = [await commit.confirm() for commit in commits]
    handled: list[str] = []
    for _ in range(4):
        [event] = await take(client.network.chaincode_events(CHAINCODE, kept.load()), 1)
        handled.append(event.transaction_id)
        kept.save(event.checkpoint)

    assert sorted(handled) == sorted(status.transaction_id for status in done)
    assert len({status.block_number for status in done}) < 4


async def test_without_a_checkpoint_events_begin_with_the_next_block(
    client: Client, network: Network
) -> None:
    await submitted(client, network)
    stream = client.network.chaincode_events(CHAINCODE)
    next_event = asyncio.ensure_future(take(stream, 1))
    height = (await client.network.chain_info()).height
    found: list[fabric.CommitStatus] = []

    async def seen() -> bool:
        # The stream has a height of its own from when it began, at an unknown moment of this test.
        found.append(await submitted(client, network))
        return next_event.done()

    await until(seen, "an event is seen")
    [event] = await next_event

    assert event.block_number >= height
    assert event.transaction_id in {status.transaction_id for status in found}


async def test_a_stream_of_events_survives_the_peers_death(client: Client, network: Network) -> None:
    losses: list[grpc.StatusCode] = []
    start = fabric.Checkpoint((await client.network.chain_info()).height)
    first = await submitted(client, network)
    stream = client.network.chaincode_events(CHAINCODE, start, fabric.Reconnect(on_lost=losses.append))
    async with asyncio.timeout(100), aclosing(stream):
        assert (await anext(stream)).transaction_id == first.transaction_id
        following = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(network.kill, "mercy-peer")
        await asyncio.to_thread(network.wait_ready, "mercy-peer", "lakeside-peer")
        found: list[fabric.CommitStatus] = []

        async def one_more() -> bool:
            try:
                found.append(await submitted(client, network))
            except fabric.StepError:
                return False
            return True

        await until(one_more, "the peers have found each other again")
        second = await following

    assert losses
    # Not the first again, and what was sent since: it may be one whose fate was not told to us.
    assert second.transaction_id != first.transaction_id
    assert second.block_number > first.block_number


async def test_events_of_a_channel_that_the_peer_does_not_have_are_refused(client: Client) -> None:
    stream = client.gateway.network("nowhere").chaincode_events(CHAINCODE, fabric.Checkpoint(0))
    async with asyncio.timeout(20), aclosing(stream):
        with pytest.raises(fabric.ChaincodeEventsError) as failure:
            await anext(stream)
    assert failure.value.status in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)


async def test_events_of_another_chaincode_are_not_given(client: Client, network: Network) -> None:
    start = fabric.Checkpoint((await client.network.chain_info()).height)
    other = asyncio.ensure_future(take(client.network.chaincode_events(QUIET, start), 1))
    status = await submitted(client, network)
    [event] = await take(client.network.chaincode_events(CHAINCODE, start), 1)

    assert event.transaction_id == status.transaction_id
    assert not other.done()
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
