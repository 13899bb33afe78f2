"""Who has broken into a member's gateway asks of others what it likes: nothing is lost, nothing gets in."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import aiohttp
import grpc
import nats.errors
import pytest

from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.errors import name_of
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import cid, envelope, signature
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import sealed_record_key_name, sealed_writer_key_name
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from cbmdhi.waiting import until
from ops.devnet import Network
from ops.devnet.topology import msp_id
from services.runtime.config import Nats
from services.runtime.nats_connection import NatsConnection
from tests.contract.events_bench import MANAGED
from tests.support.aftermath import leased, pinned
from tests.support.fabric_caller import MEMBERS
from tests.support.mesh import People, observation
from tests.support.rogue import Insider, RogueGateway, ask, refusal, signed_record, why_not, written

pytestmark = pytest.mark.asyncio(loop_scope="session")


# What is not a gateway's to ask

_WHO = "may call this, not"


class Call(NamedTuple):
    """Something that one service may ask of another."""

    may: tuple[str, str]
    of: tuple[str, str]
    method: Callable[[grpc.aio.Channel], Any]
    request: Any


def _own(service: str) -> tuple[str, str]:
    return "mercy", service


_LEDGER, _STORAGE = ledger_pb2_grpc.LedgerServiceStub, storage_pb2_grpc.StorageServiceStub
_MEMBERS = storage_pb2_grpc.MemberStorageServiceStub
_LAKESIDES = ("lakeside", "storage")
CALLS = {
    "free the disk": Call(
        _own("storage"), _own("storage"), lambda at: _STORAGE(at).Collect, storage_pb2.CollectRequest()
    ),
    "keep a blob": Call(
        _own("identity"), _own("storage"), lambda at: _STORAGE(at).PutBlob, storage_pb2.PutBlobRequest()
    ),
    "have another member hold what it likes": Call(
        _own("storage"), _LAKESIDES, lambda at: _MEMBERS(at).Replicate, storage_pb2.ReplicateRequest()
    ),
    "have another member release a key": Call(
        _own("storage"), _LAKESIDES, lambda at: _MEMBERS(at).ReleaseKey, storage_pb2.ReleaseKeyRequest()
    ),
    "fetch another member's blocks": Call(
        _own("storage"), _LAKESIDES, lambda at: _MEMBERS(at).FetchBlock, storage_pb2.FetchBlockRequest()
    ),
    "have another member's storage seal": Call(
        ("lakeside", "gateway"), _LAKESIDES, lambda at: _STORAGE(at).Seal, storage_pb2.SealRequest()
    ),
    "have another member's storage open": Call(
        ("lakeside", "gateway"), _LAKESIDES, lambda at: _STORAGE(at).OpenMany, storage_pb2.OpenManyRequest()
    ),
    "read keys": Call(
        _own("storage"),
        _own("ledger"),
        lambda at: _LEDGER(at).GetSealedKeys,
        ledger_pb2.GetSealedKeysRequest(keys=[sealed_record_key_name("nobody")]),
    ),
    "read what all are told": Call(
        _own("notify"),
        _own("ledger"),
        lambda at: _LEDGER(at).ListCommitted,
        ledger_pb2.ListCommittedRequest(),
    ),
    "have another member's ledger carry": Call(
        ("lakeside", "gateway"),
        ("lakeside", "ledger"),
        lambda at: _LEDGER(at).Submit,
        ledger_pb2.SubmitRequest(),
    ),
}


@pytest.mark.parametrize("what", CALLS)
async def test_a_gateways_key_is_worth_nothing_where_another_service_calls(
    network: Network, rogue: RogueGateway, what: str
) -> None:
    call = CALLS[what]
    (member, service), place = call.may, (call.of[1], call.of[0])
    error = await refusal(ask(call.method(rogue.to(*place)), call.request))
    assert error.code_name == "FORBIDDEN"
    assert _WHO in error.reason
    # Whose call it is, is not refused for who it is.
    async with Insider(network, member, service) as entitled:
        assert _WHO not in await why_not(ask(call.method(entitled.to(*place)), call.request))


@pytest.mark.parametrize("method", ["StorageService/Discard", "MemberStorageService/Unpin"])
async def test_nobody_can_tell_a_storage_to_let_go(rogue: RogueGateway, method: str) -> None:
    for member in MEMBERS:
        call = rogue.to("storage", member).unary_unary(f"/cbmdhi.storage.v1.{method}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


# What is pinned


async def test_what_is_committed_stays_and_what_is_not_goes_whatever_is_sealed_and_carried(
    network: Network, people: People, patient: Client, rogue: RogueGateway
) -> None:
    prepared, signed, content = signed_record(people.engine, observation(patient))
    first = (await written(people.engine, prepared)).stored

    async def is_settled() -> bool:
        return not await is_open(network, first.cid)

    await until(is_settled, "the record is held for good by both", deadline_seconds=40)
    # Anew, for the very command that is committed, the same content and another one.
    copies = [
        (await rogue.seal(signed, one, content.salt, envelope.commitment(content.salt, one))).contents[0].cid
        for one in (content.content, b"garbage")
    ]
    # For a command that will be refused: a patient writes about somebody else.
    async with await people.new_patient() as outsider:
        _, forbidden, its = signed_record(outsider, observation(patient))
    garbage = await rogue.seal(forbidden, its.content, its.salt)
    gone = {*copies, garbage.contents[0].cid}
    for name in gone:
        assert await pinned_by(network, name) == set(MEMBERS)
    [receipt] = await rogue.carry(garbage)
    assert (name_of(receipt.code), receipt.outcome) == ("FORBIDDEN", code_pb2.OUTCOME_COMMITTED), receipt
    # By a member's storage, broken into as well: what the other member holds, for the refused command.
    root = cid.of_root(first.root_sha256)
    async with Insider(network, "mercy", "storage") as storage:
        request = storage_pb2.ReplicateRequest(car=await exported(network, root), root_cid=root)
        request.contents.add(cid=first.cid, command_id=receipt.command_id, signer=forbidden.signer)
        answer = await ask(_MEMBERS(storage.to("storage", "lakeside")).Replicate, request)
        assert answer.receipt.msp == "LakesideMSP"
    # It is held for good already, so that nothing of it is open, whatever it is sent again for.
    assert await is_settled()

    async def is_let_go() -> bool:
        return not any([await pinned_by(network, name) for name in gone])

    await until(is_let_go, "what nothing names is let go", deadline_seconds=60, every_seconds=0.5)
    assert await pinned_by(network, first.cid) == set(MEMBERS)
    reading = await patient.records.read(patient.wallet.address, prepared.record.record_id, 1, "PATRQT")
    assert reading.content == prepared.record.content


async def test_a_gateway_has_nothing_put_on_the_channel_that_was_not_sealed_for_it(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    (_, first, its), (_, second, other) = (
        signed_record(people.engine, observation(patient)) for _ in range(2)
    )
    one, two = (
        await rogue.seal(first, its.content, its.salt),
        await rogue.seal(second, other.content, other.salt),
    )
    [receipt] = await rogue.carry(replace(two, contents=one.contents, seals=one.seals))
    assert (code_pb2.Code.Name(receipt.code), receipt.path) == ("CODE_INVALID", "contents.cid"), receipt

    # A copy that nobody has, under receipts of its own making.
    forged = state_pb2.SealedBatch.FromString(one.seals[0].SerializeToString())
    for held in forged.receipts:
        held.signature = signature.sign(rogue.device_key, signature.REPLICA, b"held")
    [receipt] = await rogue.carry(replace(one, seals=[forged]))
    assert code_pb2.Code.Name(receipt.code) == "CODE_INVALID", receipt
    assert receipt.path.startswith("contents.replicas"), receipt

    # What was sealed for each is good for each: neither attempt used the commands up.
    for good in (one, two):
        [receipt] = await rogue.carry(good)
        assert receipt.outcome == code_pb2.OUTCOME_COMMITTED


async def test_which_key_opens_a_content_is_its_storages_word_so_that_no_gateway_stops_a_patients_writer(
    people: People, rogue: RogueGateway
) -> None:
    async with await people.new_patient() as newcomer:
        _, signed, content = signed_record(people.engine, observation(newcomer))
        honest = await rogue.seal(signed, content.content, content.salt)
        [made] = honest.contents
        own = b"a key that opens nothing"
        digest = hashlib.sha256(own).digest()
        for key in (
            # Under the id of the key that storage made: it would have been somebody else's for ever.
            state_pb2.WriterKey(key_id=made.writer_key.key_id, epoch=1, sealed_key_sha256=digest),
            # Storage would have had to go on with the epoch after it, and there is none.
            state_pb2.WriterKey(key_id=uuid7(), epoch=2**32 - 1, sealed_key_sha256=digest),
        ):
            stated = state_pb2.StoredContent()
            stated.CopyFrom(made)
            stated.writer_key.CopyFrom(key)
            keys = [
                state_pb2.SealedKey(
                    msp=msp_id(member), key=sealed_writer_key_name("MercyMSP", key.key_id), sealed=own
                )
                for member in MEMBERS
            ]
            [receipt] = await rogue.carry(replace(honest, contents=[stated], sealed_keys=keys))
            assert (name_of(receipt.code), receipt.path) == ("INVALID", "contents.cid"), receipt
        # As if nothing had been.
        [receipt] = await rogue.carry(honest)
        assert receipt.code == code_pb2.CODE_OK, receipt
        await people.engine.records.put([observation(newcomer) for _ in range(3)])


async def test_nothing_is_sealed_for_a_patient_who_is_not_registered(
    people: People, rogue: RogueGateway
) -> None:
    async with people.newcomer() as nobody:
        _, signed, content = signed_record(people.engine, observation(nobody))
    error = await refusal(rogue.seal(signed, content.content, content.salt))
    assert error.code_name == "NOT_FOUND"


# Events


async def test_a_gateways_key_changes_no_event_and_reaches_no_other_members_nats(
    people: People, rogue: RogueGateway
) -> None:
    own = rogue.config["nats"]
    async with NatsConnection(Nats.model_validate(own), "gateway") as link:
        await link.wait_connected()
        jetstream = link.jetstream()
        jetstream._timeout = 0.5
        for action in MANAGED.values():
            with pytest.raises((nats.errors.Error, TimeoutError)):
                await action(jetstream)
    lakeside = rogue.network.files.organisation("lakeside")
    other = {
        **own,
        "url": f"tls://{rogue.network.ports().address('lakeside', 'nats')}",
        "ca_file": str(lakeside.tls_ca_certificate),
    }
    async with NatsConnection(Nats.model_validate(other), "gateway") as link:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await link.wait_connected()
    async with await people.new_patient() as told:

        async def is_told() -> bool:
            return "registration.activated" in [one.kind for one in await told.inbox.list()]

        await until(is_told, "events are as they were")


# Helpers


async def pinned_by(network: Network, name: str) -> set[str]:
    """Which members pin a block."""
    return {member for member in MEMBERS if await pinned(network, member, name)}


async def is_open(network: Network, name: str) -> bool:
    """Whether the fate of a content is open at any member."""
    return any([name in await leased(network, member) for member in MEMBERS])


async def exported(network: Network, root: str) -> bytes:
    """A batch as mercy's Kubo node holds it, as a CAR."""
    rpc = network.endpoints()["organisations"]["mercy"]["ipfs"]["rpc"]
    parameters = {"arg": root, "offline": "true", "progress": "false"}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{rpc}/api/v0/dag/export", params=parameters) as answer,
    ):
        assert answer.status == 200
        return await answer.read()
