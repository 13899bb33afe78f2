"""Who may write to the channel orders what is no transaction, and a genuine one behind it in the same block.

A block stays: what ends a peer, or lets it wait for ever, does so at every peer of every member, and again
at each start. This file is therefore the last one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest
from fabric_protos.ledger.rwset import rwset_pb2
from fabric_protos.ledger.rwset.kvrwset import kv_rwset_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2

import fabric_gateway as fabric
from cbmdhi.client import Client
from cbmdhi.client.consents import consent, provision
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1 import state_pb2
from cbmdhi.protocol.state_keys import implicit_collection
from cbmdhi.waiting import until
from fabric_gateway.proposal import header
from ops.devnet import Network
from ops.devnet.topology import msp_id
from tests.support.fabric_caller import (
    CHAINCODE,
    CHANNEL,
    MEMBERS,
    Caller,
    common,
    ledger_of,
    ledger_of_mercy,
)
from tests.support.mesh import People, observation
from tests.support.rogue import RogueGateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

NO_ACTION = b"\x0a\x00"
CASES = (
    *("no action", "empty", "rubbish", "nothing endorsed", "nothing endorsed, rightly named"),
    *("a rubbish endorsement", "says that it changes the policy of a key"),
    *("writes to a collection that nobody has", "writes to a collection of each member"),
)
_SECONDS = 30
# A peer that asks others for what an invalid transaction names stands still for 10 s.
_AT_EACH_SECONDS = 8
_TRIES = 10
kv: Any = kv_rwset_pb2
rwset: Any = rwset_pb2
peer: Any = transaction_pb2


def envelope(carrier: Caller, case: str, keys: list[str]) -> Any:
    """What is no transaction, signed by a carrier."""
    creator, nonce = carrier.identity.serialize(), os.urandom(24)
    rightly = case in ("nothing endorsed, rightly named", "a rubbish endorsement")
    name = hashlib.sha256(nonce + creator).digest() if rightly else os.urandom(32)
    data = {
        "no action": NO_ACTION,
        "empty": b"",
        "rubbish": b"\xff" * 64,
        "nothing endorsed": transaction(creator, nonce, None),
        "nothing endorsed, rightly named": transaction(creator, nonce, None),
        "a rubbish endorsement": transaction(creator, nonce, b"\xff" * 64),
        "says that it changes the policy of a key": transaction(creator, nonce, changes_policies(keys)),
        "writes to a collection that nobody has": transaction(creator, nonce, writes_to("nobody's")),
        "writes to a collection of each member": transaction(
            creator, nonce, writes_to(*(implicit_collection(msp_id(member)) for member in MEMBERS))
        ),
    }[case]
    about = header(common.ENDORSER_TRANSACTION, CHANNEL, creator, name.hex(), nonce)
    return signed(carrier, common.Payload(header=about, data=data).SerializeToString())


def signed(carrier: Caller, payload: bytes) -> Any:
    return common.Envelope(payload=payload, signature=carrier.signer(hashlib.sha256(payload).digest()))


def transaction(creator: bytes, nonce: bytes, endorsed: bytes | None) -> bytes:
    payload = peer.ChaincodeActionPayload()
    if endorsed is not None:
        payload.action.proposal_response_payload = endorsed
    author = common.SignatureHeader(creator=creator, nonce=nonce).SerializeToString()
    action = peer.TransactionAction(header=author, payload=payload.SerializeToString())
    return peer.Transaction(actions=[action]).SerializeToString()


def changes_policies(keys: list[str]) -> bytes:
    """As if the chaincode had answered that others shall endorse what is written to these keys."""
    writes = kv.KVRWSet(metadata_writes=[kv.KVMetadataWrite(key=key) for key in keys])
    return answered(rwset.NsReadWriteSet(namespace=CHAINCODE, rwset=writes.SerializeToString()))


def writes_to(*collections: str) -> bytes:
    """As if it had written to private collections, what nobody has."""
    write = kv.KVWriteHash(key_hash=os.urandom(32), value_hash=os.urandom(32))
    hashed = kv.HashedRWSet(hashed_writes=[write]).SerializeToString()
    written = rwset.NsReadWriteSet(namespace=CHAINCODE)
    for name in collections:
        written.collection_hashed_rwset.add(
            collection_name=name, hashed_rwset=hashed, pvt_rwset_hash=os.urandom(32)
        )
    return answered(written)


def answered(written: Any) -> bytes:
    """What endorsers of it would have signed."""
    results = rwset.TxReadWriteSet(ns_rwset=[written])
    proposal: Any = proposal_pb2
    chaincode: Any = chaincode_pb2
    action = proposal.ChaincodeAction(
        results=results.SerializeToString(), chaincode_id=chaincode.ChaincodeID(name=CHAINCODE, version="1")
    )
    answer: Any = proposal_response_pb2
    return answer.ProposalResponsePayload(extension=action.SerializeToString()).SerializeToString()


def peers(network: Network) -> list[int]:
    """The process of each member's peer."""
    states = network.supervisor.states()
    return [states[f"{member}-peer"].pid for member in MEMBERS]


async def endorsed(channel: fabric.Network, rogue: RogueGateway, patient: Client) -> fabric.Transaction:
    """A consent of the patient, endorsed and not yet ordered."""
    body = consent(patient.wallet.address, provision(deny=True), follows=await patient.consents.latest())
    item = state_pb2.BatchItem(group=pb.CommandGroup(commands=[rogue.sign(patient.wallet, body)]))
    batch = state_pb2.Batch(items=[item]).SerializeToString()
    return await channel.contract(CHAINCODE).propose("process", batch).endorse()


@pytest.mark.parametrize("case", CASES)
async def test_what_is_behind_it_in_its_block_is_committed_and_no_peer_ends(
    network: Network, rogue: RogueGateway, people: People, case: str
) -> None:
    before = peers(network)
    carrier = ledger_of_mercy(network)
    async with await people.new_patient() as patient, carrier.at_peer("mercy") as channel:
        for _ in range(_TRIES):
            genuine = await endorsed(channel, rogue, patient)
            keys = [write.key for write in genuine.action.writes]
            bad = [envelope(carrier, case, keys) for _ in range(3)]
            answers = await carrier.order(*bad, signed(carrier, genuine.payload))
            assert {answer.status for answer in answers} == {common.SUCCESS}
            async with asyncio.timeout(_SECONDS):
                status = await genuine.commit().status()
            assert status.successful, status
            block = await channel.block_by_number(status.block_number)
            ordered = [common.Envelope.FromString(data).payload for data in block.message.data.data]
            if bad[0].payload in ordered[: ordered.index(genuine.payload)]:
                break
        else:
            raise AssertionError("never in one block")
        # Each member's peer has it, and its services go on.
        for member in MEMBERS:
            async with ledger_of(network, member).at_peer(member) as other:
                await until(
                    lambda other=other: has(other, status.block_number),
                    f"the block at {member}",
                    deadline_seconds=_AT_EACH_SECONDS,
                )
        given = (await patient.consents.list()).consents
        await patient.consents.revoke(given[0].consent_id)
    assert peers(network) == before


async def has(channel: fabric.Network, number: int) -> bool:
    return (await channel.chain_info()).height > number


async def test_records_are_written_and_read_at_both_members(network: Network, people: People) -> None:
    before = peers(network)
    async with await people.new_patient() as patient:
        record = observation(patient)
        await people.engine.records.put(record)
        for member in MEMBERS:
            async with Client(patient.wallet, member) as there:
                reading = await there.records.read(record.patient, record.record_id, 1, "PATRQT")
                assert reading.content
    assert peers(network) == before
