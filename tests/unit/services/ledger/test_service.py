"""The gRPC surface: who may ask what, and answers that do not wait for the projection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import grpc
import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command as commands
from cbmdhi.protocol import signature
from cbmdhi.protocol.state_keys import registration_key
from fabric_gateway import EvaluateError
from services.ledger.channel.evidence import EvidenceCollector
from services.ledger.channel.peer_state import PeerState
from services.ledger.health import MAX_LAG_BLOCKS, Health
from services.ledger.metrics import LedgerMetrics
from services.ledger.projection.block_feed import BlockFeed
from services.ledger.projection.block_numbers import BlockNumbers
from services.ledger.projection.follower import Blocks, ProjectionFollower, RecentBlocks
from services.ledger.projection.lists import Lists
from services.ledger.projection.projection import Projection
from services.ledger.projection.schema import MIGRATIONS
from services.ledger.service import LedgerServicer
from services.ledger.submission.batch_submitter import BatchSubmitter
from services.ledger.submission.submitter import Submitter
from services.runtime.callers import PeerDirectory, current_directory
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.channel import CHANNEL as SIGNED
from tests.support.fakes.fabric_channel import (
    CHAINCODE,
    CHANNEL,
    MERCY,
    PATIENT,
    World,
    command_id,
    of_record,
)
from tests.support.fakes.projection_followers import entry, identity, record
from tests.support.pki import Consortium

ADMITTED = {
    "Submit": {"gateway", "identity", "storage"},
    "GetIdentity": {"gateway", "identity", "storage", "notify"},
    "GetIdentities": {"gateway", "identity", "storage", "notify"},
    "ListIdentities": {"gateway", "identity"},
    "GetConsents": {"gateway"},
    "GetRecordVersion": {"gateway"},
    "ListRecords": {"gateway"},
    "ListAudit": {"gateway"},
    "GetReceipt": {"gateway"},
    "GetReceipts": {"gateway", "storage"},
    "GetRecordVersions": {"gateway"},
    "GetLatestVersions": {"gateway"},
    "GetCommittedContents": {"storage"},
    "Prove": {"gateway"},
    "ListCommitted": {"notify"},
    "GetMember": {"gateway", "identity", "storage", "notify"},
    "ListMembers": {"gateway", "identity", "storage", "notify"},
    "GetWriterKey": {"storage"},
    "GetWriterKeys": {"storage"},
    "GetSealedKeys": {"storage"},
    "Explain": {"gateway", "storage"},
    "GetHeight": {"gateway", "identity", "storage", "notify"},
}


class Asking:
    """A service on the other end of the connection."""

    def __init__(self, consortium: Consortium, service: str, organisation: str = "mercy") -> None:
        self._pem = consortium.members[organisation].issue(service).certificate_file.read_bytes()

    def auth_context(self) -> Any:
        return {"x509_pem_cert": [self._pem]}

    def invocation_metadata(self) -> Any:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"


class Surface:
    """The servicer over a world; the follower runs when a test says so."""

    def __init__(self, world: World, database: Database, consortium: Consortium) -> None:
        metrics = LedgerMetrics(Metrics("ledger"))
        self.world, self.consortium = world, consortium
        self.projection, recent = Projection(database), RecentBlocks()
        block_numbers = BlockNumbers(world, self.projection)
        self.submitter = Submitter(BatchSubmitter(world, block_numbers, metrics), metrics)
        self.health = Health(world, self.projection, metrics)
        self.follower = ProjectionFollower(
            world, self.projection, recent, metrics, channel_name=CHANNEL, chaincode=CHAINCODE
        )
        state, lists = PeerState(world), Lists(database)
        self.servicer = LedgerServicer(
            channel_name=CHANNEL,
            submitter=self.submitter,
            state=state,
            projection=self.projection,
            lists=lists,
            evidence=EvidenceCollector(world, state, lists),
            block_feed=BlockFeed(
                Blocks(world, recent, channel_name=CHANNEL, chaincode=CHAINCODE), self.projection, CHANNEL
            ),
            block_numbers=block_numbers,
            health=self.health,
        )
        self.gateway = Asking(consortium, "gateway")

    async def ask(self, method: str, request: Any, asking: Asking | None = None) -> Any:
        return await getattr(self.servicer, method)(request, asking or self.gateway)


@asynccontextmanager
async def following(surface: Surface) -> AsyncIterator[None]:
    """The projection keeps up meanwhile."""
    task = asyncio.create_task(surface.follower.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path / "pki")


@pytest.fixture
async def surface(tmp_path: Path, consortium: Consortium) -> AsyncIterator[Surface]:
    async with Database(tmp_path / "projection.db", MIGRATIONS) as database:
        surface = Surface(World(), database, consortium)
        async with surface.submitter:
            yield surface


@pytest.fixture
def directory(consortium: Consortium) -> PeerDirectory:
    directory = PeerDirectory.of("MercyMSP", consortium.tls("ledger"))
    current_directory.set(directory)
    return directory


@pytest.mark.parametrize("method", sorted(ADMITTED))
@pytest.mark.usefixtures("directory")
async def test_each_call_admits_whom_the_protocol_names_and_nobody_else(
    surface: Surface, method: str
) -> None:
    request = getattr(ledger_pb2, f"{method}Request")()
    everyone = ["gateway", "identity", "storage", "notify", "stranger"]

    async def refused(asking: Asking) -> bool:
        try:
            await surface.ask(method, request, asking)
        except MeshError as err:
            return err.code == code_pb2.CODE_FORBIDDEN
        return False

    admitted = {name for name in everyone if not await refused(Asking(surface.consortium, name))}

    assert admitted == ADMITTED[method]
    assert await refused(Asking(surface.consortium, "gateway", "lakeside"))


@pytest.mark.usefixtures("directory")
async def test_storage_carries_what_it_opened_without_a_majority_and_nothing_else(surface: Surface) -> None:
    storage = Asking(surface.consortium, "storage")
    signer = commands.KeySigner(signature.new_private_key())
    opened = signer.sign_command(commands.make(command_pb2.EmergencyAccess(), channel=SIGNED))
    emergency = ledger_pb2.SealedGroup(
        item=state_pb2.BatchItem(group=command_pb2.CommandGroup(commands=[opened]))
    )
    await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[emergency]), storage)
    with pytest.raises(MeshError) as caught:
        await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[emergency, of_record()]), storage)
    assert caught.value.code == code_pb2.CODE_FORBIDDEN
    assert caught.value.nothing_done
    # What storage did not open is not put on record by others.
    for other in ("gateway", "identity"):
        with pytest.raises(MeshError) as caught:
            await surface.ask(
                "Submit",
                ledger_pb2.SubmitRequest(submissions=[of_record(), emergency]),
                Asking(surface.consortium, other),
            )
        assert caught.value.code == code_pb2.CODE_FORBIDDEN
        assert caught.value.nothing_done


@pytest.mark.usefixtures("directory")
async def test_a_receipt_is_found_before_the_projection_knows_it(surface: Surface) -> None:
    one = of_record()
    sent = await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[one]))
    signer = one.item.group.commands[0].signer

    found = await surface.ask(
        "GetReceipt", ledger_pb2.GetReceiptRequest(command_id=command_id(one), signer=signer)
    )

    assert surface.projection.next_block == 0
    assert found.receipt == sent.groups[0].receipts[0]
    with pytest.raises(MeshError) as failure:
        await surface.ask("GetReceipt", ledger_pb2.GetReceiptRequest(command_id="other", signer=signer))
    assert failure.value.code == code_pb2.CODE_NOT_FOUND


@pytest.mark.usefixtures("directory")
async def test_receipts_come_by_one_question_in_order_with_a_place_for_what_is_not_committed(
    surface: Surface,
) -> None:
    sent: list[ledger_pb2.Receipt] = []
    async with following(surface):
        for _ in range(2):
            answer = await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[of_record()]))
            sent += answer.groups[0].receipts
        assert await surface.projection.wait_for(1, 5)
    # From here on nobody follows: the lists are behind the peer.
    late = of_record()
    answer = await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[late]))
    sent += answer.groups[0].receipts
    commands = [
        ledger_pb2.GetReceiptRequest(command_id=one.command_id, signer=one.signer)
        for one in (sent[2], sent[0], sent[1], sent[2])
    ]
    commands.insert(1, ledger_pb2.GetReceiptRequest(command_id=sent[0].command_id, signer="cb1nobody"))
    questions = surface.world.questions

    found = await surface.ask("GetReceipts", ledger_pb2.GetReceiptsRequest(commands=commands))

    assert [one.receipt for one in found.receipts] == [
        sent[2],
        ledger_pb2.Receipt(),
        sent[0],
        sent[1],
        sent[2],
    ]
    assert [one.HasField("receipt") for one in found.receipts] == [True, False, True, True, True]
    assert surface.world.questions == questions + 1


@pytest.mark.usefixtures("directory")
async def test_receipts_are_not_said_to_be_absent_while_the_peer_is_away(surface: Surface) -> None:
    asked = ledger_pb2.GetReceiptsRequest(
        commands=[ledger_pb2.GetReceiptRequest(command_id="c", signer="cb1a")]
    )
    surface.world.query = AsyncMock(side_effect=EvaluateError(grpc.StatusCode.UNAVAILABLE, "gone"))  # type: ignore[method-assign]

    with pytest.raises(MeshError) as failure:
        await surface.ask("GetReceipts", asked)

    assert failure.value.code == code_pb2.CODE_UNAVAILABLE


@pytest.mark.usefixtures("directory")
async def test_a_version_comes_from_the_peer_and_the_latest_from_the_projection(surface: Surface) -> None:
    await surface.world.commit_writes(record("r", 1))
    await surface.world.commit_writes(record("r", 2))

    asked = await surface.ask(
        "GetRecordVersion", ledger_pb2.GetRecordVersionRequest(record_id="r", version=1)
    )

    assert asked.record.version == 1
    with pytest.raises(MeshError) as failure:
        await surface.ask("GetRecordVersion", ledger_pb2.GetRecordVersionRequest(record_id="r", version=3))
    assert failure.value.code == code_pb2.CODE_NOT_FOUND


@pytest.mark.usefixtures("directory")
async def test_a_patient_without_consents_gets_an_empty_document(surface: Surface) -> None:
    answer = await surface.ask("GetConsents", ledger_pb2.GetConsentsRequest(patient="cb1x"))

    assert answer.consents == state_pb2.ConsentDocument(patient="cb1x")


@pytest.mark.usefixtures("directory")
async def test_several_identities_come_by_one_question_in_order_with_a_place_for_the_unknown(
    surface: Surface,
) -> None:
    for address in ("cb1a", "cb1b"):
        signed = command_pb2.SignedCommand(signer=address)
        await surface.world.commit_writes(
            identity(address) | {registration_key(address): signed.SerializeToString()}
        )
    asked = ledger_pb2.GetIdentitiesRequest(addresses=["cb1b", "cb1nobody", "cb1a", "cb1b"])

    found = (await surface.ask("GetIdentities", asked)).identities

    assert [one.identity.address for one in found] == ["cb1b", "", "cb1a", "cb1b"]
    assert [one.registration.signer for one in found] == ["cb1b", "", "cb1a", "cb1b"]
    assert [one.HasField("identity") for one in found] == [True, False, True, True]
    assert surface.world.questions == 1
    alone = await surface.ask("GetIdentity", ledger_pb2.GetIdentityRequest(address="cb1b"))
    assert found[0] == alone


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetIdentities", ledger_pb2.GetIdentitiesRequest(addresses=["cb1a"] * 501)),
        ("GetReceipts", ledger_pb2.GetReceiptsRequest(commands=[ledger_pb2.GetReceiptRequest()] * 501)),
        (
            "GetCommittedContents",
            ledger_pb2.GetCommittedContentsRequest(batches=[ledger_pb2.HeldBatch()] * 501),
        ),
        ("GetWriterKeys", ledger_pb2.GetWriterKeysRequest(writer_msp=MERCY, patients=["cb1a"] * 501)),
    ],
)
async def test_more_than_500_at_once_are_too_many(surface: Surface, method: str, request_: Any) -> None:
    with pytest.raises(MeshError) as failure:
        await surface.ask(method, request_, Asking(surface.consortium, "storage"))

    assert failure.value.code == code_pb2.CODE_TOO_LARGE
    assert surface.world.questions == 0


@pytest.mark.usefixtures("directory")
async def test_writer_keys_come_in_the_order_of_the_patients_with_a_place_for_those_without(
    surface: Surface,
) -> None:
    async with following(surface):
        await surface.world.commit_writes(record("a", 2) | record("b", 1))
        assert await surface.projection.wait_for(1, 5)
        asked = ledger_pb2.GetWriterKeysRequest(writer_msp=MERCY, patients=["cb1x", PATIENT, PATIENT])
        storage = Asking(surface.consortium, "storage")
        found = (await surface.ask("GetWriterKeys", asked, storage)).writer_keys

    assert [one.writer_key.epoch for one in found] == [0, 2, 2]
    assert [one.HasField("writer_key") for one in found] == [False, True, True]


@pytest.mark.usefixtures("directory")
async def test_a_writer_key_that_is_known_does_not_wait_for_a_projection_that_is_behind(
    surface: Surface,
) -> None:
    storage = Asking(surface.consortium, "storage")
    asked = ledger_pb2.GetWriterKeyRequest(writer_msp=MERCY, patient=PATIENT)
    async with following(surface):
        await surface.world.commit_writes(record("a", 1))
        assert await surface.projection.wait_for(1, 5)
    # From here on nobody follows: what is submitted is in a block that the projection never reads.
    await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[of_record()]))
    waited = AsyncMock(return_value=False)
    surface.projection.wait_for = waited  # type: ignore[method-assign]

    assert (await surface.ask("GetWriterKey", asked, storage)).writer_key.epoch == 1
    assert waited.await_count == 0
    asked.patient = "cb1other"
    with pytest.raises(MeshError) as failure:
        await surface.ask("GetWriterKey", asked, storage)
    assert failure.value.code == code_pb2.CODE_NOT_FOUND
    assert waited.await_count == 1


@pytest.mark.usefixtures("directory")
async def test_what_was_submitted_is_in_the_lists_right_after(surface: Surface) -> None:
    async with following(surface):
        for number in range(1, 6):
            await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[of_record()]))
            listed = await surface.ask("ListAudit", ledger_pb2.ListAuditRequest(patient=PATIENT))
            assert len(listed.entries) == number


@pytest.mark.usefixtures("directory")
async def test_a_peer_that_is_away_is_unavailable_and_makes_the_service_unready(surface: Surface) -> None:
    surface.world.down = True
    for method, request in {
        "GetIdentity": ledger_pb2.GetIdentityRequest(address="cb1x"),
        "GetHeight": ledger_pb2.GetHeightRequest(),
    }.items():
        with pytest.raises(MeshError) as failure:
            await surface.ask(method, request)
        assert failure.value.code == code_pb2.CODE_UNAVAILABLE
    with pytest.raises(MeshError):
        await surface.health.check()


@pytest.mark.usefixtures("directory")
async def test_lists_far_behind_are_not_shown_and_the_service_goes_on(surface: Surface) -> None:
    one = of_record()
    await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[one]))
    _, written = commands.body_of(one.item.group.commands[0])
    for number in range(MAX_LAG_BLOCKS + 1):
        await surface.world.commit_writes(entry(str(number)))

    with pytest.raises(MeshError) as caught:
        await surface.ask("ListRecords", ledger_pb2.ListRecordsRequest(patient=PATIENT))
    request = ledger_pb2.GetRecordVersionRequest(record_id=written.record_id, version=1)
    found = await surface.ask("GetRecordVersion", request)
    (again,) = (await surface.ask("Submit", ledger_pb2.SubmitRequest(submissions=[of_record()]))).groups

    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert found.record.record_id == written.record_id
    assert again.receipts[0].code == code_pb2.CODE_OK
    assert await surface.health.check() is None
