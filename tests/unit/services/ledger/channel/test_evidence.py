"""Evidence: of what was asked, and of nothing that concerns others."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command
from cbmdhi.protocol.state_keys import audit_key, identity_key, record_key, registration_key
from services.ledger.channel.evidence import EvidenceCollector
from services.ledger.channel.peer_state import PeerState
from services.ledger.metrics import LedgerMetrics
from services.ledger.projection.block_numbers import BlockNumbers
from services.ledger.projection.follower import ProjectionFollower, RecentBlocks
from services.ledger.projection.lists import Lists
from services.ledger.projection.projection import Projection
from services.ledger.projection.schema import MIGRATIONS
from services.ledger.submission.batch_submitter import BatchSubmitter
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import (
    CHAINCODE,
    CHANNEL,
    ENGINE,
    PATIENT,
    Named,
    World,
    command_id,
    endorse_error,
    of_record,
    put_record,
    submission,
)

NEIGHBOUR = "cb1" + "n" * 32


class Mercy:
    """A ledger service that carried some records in one transaction, and can prove them."""

    def __init__(self, world: World, database: Database) -> None:
        metrics, recent = LedgerMetrics(Metrics("ledger")), RecentBlocks()
        self.world = world
        self.projection = Projection(database)
        self.carrier = BatchSubmitter(world, BlockNumbers(world, self.projection), metrics)
        self.follower = ProjectionFollower(
            world, self.projection, recent, metrics, channel_name=CHANNEL, chaincode=CHAINCODE
        )
        self.proving = EvidenceCollector(world, PeerState(world), Lists(database))

    async def carry(self, *submissions: ledger_pb2.SealedGroup) -> None:
        await self.carrier.carry(submissions)
        task = asyncio.create_task(self.follower.run())
        try:
            assert await self.projection.wait_for(len(self.world.chain) - 1, 5)
        finally:
            task.cancel()
            await asyncio.wait([task])


@pytest.fixture
async def mercy(tmp_path: Path) -> AsyncIterator[Mercy]:
    async with Database(tmp_path / "projection.db", MIGRATIONS) as database:
        yield Mercy(World(), database)


def asked(evidence: ledger_pb2.Evidence) -> list[str]:
    query = evidence.endorsed_state.removeprefix(b"endorsed ")
    return list(state_pb2.Query.FromString(query).get_keys.keys)


async def test_where_no_majority_is_to_be_had_the_own_peer_signs_alone(mercy: Mercy) -> None:
    one = of_record()
    await mercy.carry(one)
    body = command.parse(one.item.group.commands[0])[1].put_record
    mercy.world.endorse_faults.extend(endorse_error(grpc.StatusCode.UNAVAILABLE) for _ in range(5))
    with pytest.raises(MeshError):
        await mercy.proving.of_versions([(body.record_id, 1)])
    evidence = await mercy.proving.of_versions([(body.record_id, 1)], own_peer_only=True)
    assert evidence.endorsed_state.startswith(b"endorsed here ")
    assert ids(evidence) == [command_id(one)]


def ids(evidence: ledger_pb2.Evidence) -> list[str]:
    return [command.parse(one)[0].command_id for one in evidence.commands]


async def code_of(proving: EvidenceCollector, *named: str) -> int:
    with pytest.raises(MeshError) as failure:
        await proving.of_command(*named)  # type: ignore[arg-type]
    return failure.value.code


async def test_evidence_of_a_version_holds_nothing_of_its_neighbours_in_the_transaction(
    mercy: Mercy,
) -> None:
    wanted = put_record()
    neighbours = [submission(put_record(patient=NEIGHBOUR)) for _ in range(16)]
    one = submission(wanted)
    await mercy.carry(*neighbours[:8], one, *neighbours[8:])

    evidence = await mercy.proving.of_versions([(wanted.record_id, 1)])

    assert asked(evidence) == [record_key(wanted.record_id, 1)]
    assert ids(evidence) == [command_id(one)]
    assert NEIGHBOUR.encode() not in evidence.SerializeToString()


async def test_a_stranger_s_envelope_under_the_same_id_does_not_take_a_version_s_evidence(
    mercy: Mercy,
) -> None:
    mercy.world.shadowed = True
    wanted = put_record()
    one = submission(wanted)
    await mercy.carry(one)

    assert ids(await mercy.proving.of_versions([(wanted.record_id, 1)])) == [command_id(one)]


async def test_a_command_is_proven_to_whom_it_concerns_and_to_nobody_else(mercy: Mercy) -> None:
    one, other = of_record(), submission(put_record(patient=NEIGHBOUR))
    await mercy.carry(one, other)

    for concerning in (ENGINE.address, PATIENT):
        for signer in (ENGINE.address, ""):
            evidence = await mercy.proving.of_command(command_id(one), signer, concerning)
            assert ids(evidence) == [command_id(one)]
            assert asked(evidence)[0] == audit_key(command_id(one), ENGINE.address)

    for named in (
        (command_id(other), ENGINE.address, PATIENT),
        (command_id(other), "", PATIENT),
        (command_id(one), ENGINE.address, NEIGHBOUR),
        (command_id(one), Named("other").address, PATIENT),
        ("unknown", "", PATIENT),
    ):
        assert await code_of(mercy.proving, *named) == code_pb2.CODE_NOT_FOUND


async def test_what_is_not_committed_is_not_proven(mercy: Mercy) -> None:
    with pytest.raises(MeshError) as failure:
        await mercy.proving.of_versions([("nowhere", 1)])
    assert failure.value.code == code_pb2.CODE_NOT_FOUND


async def test_peers_that_do_not_agree_yet_are_asked_again_and_not_without_end(mercy: Mercy) -> None:
    wanted = put_record()
    await mercy.carry(submission(wanted))
    mercy.world.endorse_faults.extend([endorse_error(grpc.StatusCode.ABORTED)] * 2)
    assert asked(await mercy.proving.of_versions([(wanted.record_id, 1)]))

    mercy.world.endorse_faults.extend([endorse_error(grpc.StatusCode.UNAVAILABLE)] * 10)
    with pytest.raises(MeshError) as failure:
        await mercy.proving.of_versions([(wanted.record_id, 1)])
    assert failure.value.code == code_pb2.CODE_UNAVAILABLE
    assert len(mercy.world.endorse_faults) == 5


async def test_who_signed_is_asked_for_once(mercy: Mercy) -> None:
    wanted = put_record()
    await mercy.carry(submission(wanted))
    document = state_pb2.IdentityDocument(address=ENGINE.address).SerializeToString()
    registration = command_pb2.SignedCommand(signer=ENGINE.address).SerializeToString()
    mercy.world.state |= {
        identity_key(ENGINE.address): document,
        registration_key(ENGINE.address): registration,
    }
    places = [(wanted.record_id, 1)]
    first = await mercy.proving.of_versions(places)
    asked_before = mercy.world.questions

    again = await mercy.proving.of_versions(places)

    assert [one.signer for one in again.registrations] == [ENGINE.address]
    assert first.registrations == again.registrations
    assert mercy.world.questions == asked_before + 1  # of the peers, about the record


async def test_a_transaction_is_fetched_once_for_what_is_read_of_it_again(mercy: Mercy) -> None:
    first, second = put_record(), put_record()
    await mercy.carry(submission(first), submission(second))
    places = [(first.record_id, 1), (second.record_id, 1)]

    assert len((await mercy.proving.of_versions(places)).commands) == 2
    assert len((await mercy.proving.of_versions(places)).commands) == 2

    assert len(mercy.world.fetched) == 1
