"""The Fabric client against a real network: two peers, an orderer, our chaincode."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from itertools import pairwise
from typing import TypeVar

import grpc
import pytest

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, state_pb2
from ops.devnet import Network, topology
from tests.contract.fabric_gateway.peer import BOTH, Client
from tests.contract.people import CHANNEL

T = TypeVar("T")

_ORDERERS = [topology.program_name(organisation, topology.ORDERER) for organisation in topology.orderers()]


def code_of(result: bytes) -> int:
    return state_pb2.BatchResult.FromString(result).groups[0].verdicts[0].code


async def test_a_transaction_is_endorsed_by_both_members_ordered_and_committed(
    client: Client, registration: bytes
) -> None:
    transaction = await client.contract.propose("process", registration, organisations=BOTH).endorse()
    commit = await transaction.submit()
    status = await commit.status()

    assert code_of(transaction.result) == code_pb2.CODE_OK
    assert status.successful
    block = await client.network.block_by_transaction(transaction.transaction_id)
    assert block.number == status.block_number
    (mine,) = [one for one in block.transactions if one.transaction_id == transaction.transaction_id]
    assert mine.valid
    assert mine.creator_msp_id == "MercyMSP"
    assert mine.action is not None
    assert mine.action == transaction.action
    assert mine.action.arguments == (b"process", registration)
    assert {write.key.partition("/")[0] for write in mine.action.writes} == {"id", "reg", "z"}


async def test_submit_does_all_steps_and_answers_what_the_chaincode_said(
    client: Client, registration: bytes
) -> None:
    result = await client.contract.submit("process", registration, organisations=BOTH)

    assert code_of(result) == code_pb2.CODE_OK


async def test_a_transaction_is_signed_where_the_key_is_and_sent_from_where_it_is_not(
    client: Client, registration: bytes
) -> None:
    keyless = fabric.Gateway(client.channel, client.identity)
    contract = keyless.network(CHANNEL).contract("cbmdhi")
    with pytest.raises(fabric.NoSigner):
        await contract.propose("process", registration, organisations=BOTH).endorse()

    proposal = contract.propose("process", registration, organisations=BOTH)
    proposal = keyless.proposal(proposal.with_signature(client.signer(proposal.digest)).to_bytes())
    transaction = await proposal.endorse()
    transaction = keyless.transaction(
        transaction.with_signature(client.signer(transaction.digest)).to_bytes()
    )
    commit = await transaction.submit()
    commit = keyless.commit(commit.with_signature(client.signer(commit.digest)).to_bytes())
    status = await commit.status()

    assert status.successful
    assert status.transaction_id == proposal.transaction_id == transaction.transaction_id


async def test_a_wrong_signature_is_refused_at_endorsement(client: Client, registration: bytes) -> None:
    proposal = client.contract.propose("process", registration, organisations=BOTH)

    with pytest.raises(fabric.EndorseError):
        await proposal.with_signature(client.signer(b"\0" * 32)).endorse()


async def test_what_a_chaincode_refuses_arrives_with_its_code_from_each_peer(client: Client) -> None:
    with pytest.raises(fabric.EndorseError) as failure:
        await client.contract.submit("process", b"\xff\xff", organisations=BOTH)

    assert {one.msp_id for one in failure.value.failures} == set(BOTH)
    assert all(said.startswith("CODE_INVALID: ") for said in failure.value.chaincode_messages)
    assert "CODE_INVALID" not in str(failure.value)

    with pytest.raises(fabric.EvaluateError) as failed:
        await client.contract.evaluate("query", b"\xff\xff", organisations=("MercyMSP",))
    assert failed.value.chaincode_messages[0].startswith("CODE_INVALID: ")


async def test_the_slower_of_two_transactions_over_one_key_is_committed_as_a_conflict(
    client: Client, registration: bytes
) -> None:
    quick = await client.contract.propose("process", registration, organisations=BOTH).endorse()
    slow = await client.contract.propose("process", registration, organisations=BOTH).endorse()
    await (await quick.submit()).confirm()

    with pytest.raises(fabric.CommitError) as failure:
        await (await slow.submit()).confirm()

    assert failure.value.code == fabric.MVCC_READ_CONFLICT == 11
    assert failure.value.name == "MVCC_READ_CONFLICT"
    block = await client.network.block_by_number(failure.value.block_number)
    (mine,) = [one for one in block.transactions if one.transaction_id == slow.transaction_id]
    assert not mine.valid
    assert mine.action is None


async def test_a_transaction_that_is_submitted_twice_counts_once(client: Client, registration: bytes) -> None:
    transaction = await client.contract.propose("process", registration, organisations=BOTH).endorse()
    await transaction.submit()
    first = await (await transaction.submit()).confirm()
    # Another one behind it, so that the second copy is in a block by now.
    await client.contract.submit("process", registration, organisations=BOTH)
    height = (await client.network.chain_info()).height

    codes = [
        one.validation_code
        for number in range(first.block_number, height)
        for one in (await client.network.block_by_number(number)).transactions
        if one.transaction_id == transaction.transaction_id
    ]

    assert codes == [fabric.VALID, fabric.DUPLICATE_TXID]


async def test_the_fate_of_a_transaction_that_nobody_submitted_stays_unknown(client: Client) -> None:
    with pytest.raises(fabric.CommitStatusError) as failure:
        await client.network.commit("ab" * 32).status(0.3)

    assert failure.value.status == grpc.StatusCode.DEADLINE_EXCEEDED
    with pytest.raises(fabric.EvaluateError):
        await client.network.block_by_transaction("ab" * 32)


async def test_blocks_come_whole_in_order_and_hang_together(client: Client, registration: bytes) -> None:
    await client.contract.submit("process", registration, organisations=BOTH)
    info = await client.network.chain_info()
    blocks: list[fabric.Block] = []
    async with asyncio.timeout(20), aclosing(client.network.blocks(0)) as stream:
        async for block in stream:
            blocks.append(block)
            if len(blocks) == info.height:
                break

    assert [block.number for block in blocks] == list(range(info.height))
    for before, after in pairwise(blocks):
        assert after.previous_hash == before.header_hash
    assert blocks[-1].header_hash == info.current_block_hash
    asked = await client.network.block_by_number(1)
    assert asked == blocks[1]


async def test_a_stream_of_blocks_waits_for_the_next_one(client: Client, registration: bytes) -> None:
    height = (await client.network.chain_info()).height
    async with asyncio.timeout(20), aclosing(client.network.blocks(height)) as stream:
        next_block = asyncio.ensure_future(anext(stream))
        await client.contract.submit("process", registration, organisations=BOTH)

        assert (await next_block).number == height


async def test_a_stream_of_blocks_survives_the_peers_death(
    network: Network, client: Client, registration: bytes
) -> None:
    losses: list[grpc.StatusCode] = []
    start = (await client.network.chain_info()).height - 1
    reconnect = fabric.Reconnect(on_lost=losses.append)
    async with asyncio.timeout(100), aclosing(client.network.blocks(start, reconnect)) as stream:
        first = await anext(stream)
        following = asyncio.ensure_future(anext(stream))
        await asyncio.to_thread(network.kill, "mercy-peer")
        await asyncio.to_thread(network.wait_ready, "mercy-peer", "lakeside-peer")
        await _submitted(client, registration)
        second = await following

    assert losses
    assert second.number == first.number + 1
    assert second.previous_hash == first.header_hash


async def test_a_channel_that_the_peer_does_not_have_is_refused(client: Client) -> None:
    async with asyncio.timeout(20), aclosing(client.gateway.network("nowhere").blocks(0)) as stream:
        with pytest.raises(fabric.BlockEventsError):
            await anext(stream)


async def test_a_member_that_is_away_is_named(network: Network, client: Client, registration: bytes) -> None:
    await asyncio.to_thread(network.stop, "lakeside-peer")
    try:
        with pytest.raises(fabric.EndorseError) as failure:
            await client.contract.submit("process", registration, organisations=BOTH)
        assert {one.msp_id for one in failure.value.failures} <= {"LakesideMSP"}
        assert failure.value.status in (grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE)
    finally:
        await asyncio.to_thread(network.start, "lakeside-peer")
    await _submitted(client, registration)


async def test_when_no_orderer_is_there_the_submission_failed_and_may_have_happened(
    network: Network, client: Client, registration: bytes
) -> None:
    transaction = await _endorsed(client, registration)
    await _each(network.stop)
    try:
        with pytest.raises(fabric.SubmitError) as failure:
            await transaction.submit()
        assert failure.value.may_have_happened
    finally:
        await _each(network.start)
    # The same transaction again is no other one.
    commit = await _until_it_works(transaction.submit)
    assert (await commit.status()).successful


async def test_with_one_of_three_orderers_away_transactions_are_ordered(
    network: Network, client: Client, registration: bytes
) -> None:
    transaction = await _endorsed(client, registration)
    await asyncio.to_thread(network.stop, _ORDERERS[0])
    try:
        # It may have led: the others agree on a leader within seconds, and the peer follows another one.
        commit = await _until_it_works(transaction.submit)
        assert (await commit.status()).successful
    finally:
        await asyncio.to_thread(network.start, _ORDERERS[0])


async def _each(work: Callable[[str], None]) -> None:
    for orderer in _ORDERERS:
        await asyncio.to_thread(work, orderer)


async def test_the_members_of_the_channel_are_read_from_its_configuration(client: Client) -> None:
    assert await client.network.application_msp_ids() == ("LakesideMSP", "MercyMSP")


async def test_the_transaction_id_is_the_hash_of_nonce_and_creator(client: Client) -> None:
    from fabric_protos.common import common_pb2
    from fabric_protos.gateway import gateway_pb2
    from fabric_protos.peer import proposal_pb2

    proposal = client.contract.propose("process", b"")
    message = gateway_pb2.ProposedTransaction.FromString(proposal.to_bytes())  # type: ignore[attr-defined]
    inner = proposal_pb2.Proposal.FromString(message.proposal.proposal_bytes)  # type: ignore[attr-defined]
    header = common_pb2.Header.FromString(inner.header)  # type: ignore[attr-defined]
    signed = common_pb2.SignatureHeader.FromString(header.signature_header)  # type: ignore[attr-defined]

    assert proposal.transaction_id == hashlib.sha256(signed.nonce + signed.creator).hexdigest()
    assert signed.creator == client.identity.serialize()


async def _endorsed(client: Client, argument: bytes) -> fabric.Transaction:
    """Endorsed, as soon as peers have found each other again."""
    return await _until_it_works(client.contract.propose("process", argument, organisations=BOTH).endorse)


async def _submitted(client: Client, argument: bytes) -> None:
    transaction = await _endorsed(client, argument)
    await (await _until_it_works(transaction.submit)).status()


async def _until_it_works(step: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(60):
        while True:
            try:
                return await step()
            except fabric.StepError:
                await asyncio.sleep(0.2)
