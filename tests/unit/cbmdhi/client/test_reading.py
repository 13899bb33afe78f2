"""read_many: in order, each with its own outcome, decrypted here; and nothing that is not proven."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import grpc
import pytest

from cbmdhi.client import reading as reading_module
from cbmdhi.client.connection import Connection
from cbmdhi.client.records import Reading, Records
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import RecordVersion, StoredContent
from cbmdhi.errors import AccessRefused, MeshError, NotSent, UnknownOutcome
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command, envelope, hpke
from cbmdhi.protocol.state_keys import record_key
from cbmdhi.storage.v1.storage_pb2 import OpenResponse
from tests.support.channel import CHANNEL
from tests.support.fakes.evidence import PATIENT, Committed, Person
from tests.support.fakes.fabric_blocks import CHAINCODE, Network
from tests.support.fakes.signing_wallet import SigningWallet

_WRITER_KEY = bytes(32)


@dataclass
class ReadingGateway:
    """Gives each record `content of <record id>`, but for what the record's id says otherwise.

    forges  what it does to a version before it hands it out: a gateway that was broken into
    """

    wallet: SigningWallet = field(default_factory=SigningWallet)
    committed: Committed = field(default_factory=Committed)
    forges: Callable[[ReadingGateway, Forgery], None] | None = None
    proven: list[int] = field(default_factory=list)
    stored: dict[str, Stored] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    authenticated: Any = field(default_factory=lambda: grpc.aio.insecure_channel("127.0.0.1:1"))

    def __post_init__(self) -> None:
        self.author = self.committed.person()
        self.wallet.consortium = consortium_of(self.committed.network)

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, gateway_pb2.ReadRequest):
            self.alone.append(command.parse(request.command)[0].command_id)
            read = self._read(request.command)
            self._prove(read, [] if request.proven else [read])
            return read
        self.calls.append(len(request.commands))
        answer = gateway_pb2.ReadManyResponse(results=[self._result(one) for one in request.commands])
        self._prove(
            answer, [one.read for place, one in enumerate(answer.results) if place not in request.proven]
        )
        return answer

    def _prove(
        self,
        answer: gateway_pb2.ReadResponse | gateway_pb2.ReadManyResponse,
        reads: Sequence[gateway_pb2.ReadResponse],
    ) -> None:
        records = [read.opened.record for read in reads if read.HasField("opened")]
        self.proven.append(len(records))
        if records:
            answer.evidence.CopyFrom(self.committed.of(records))

    def _result(self, signed: pb.SignedCommand) -> gateway_pb2.ReadResult:
        record_id = command.parse(signed)[1].access.record_id
        for says, code in (
            ("gone", code_pb2.CODE_NOT_FOUND),
            ("large", code_pb2.CODE_TOO_LARGE),
        ):
            if record_id.startswith(says):
                return gateway_pb2.ReadResult(error=code_pb2.ErrorDetail(code=code, reason="it is so"))
        return gateway_pb2.ReadResult(read=self._read(signed))

    def _read(self, signed: pb.SignedCommand) -> gateway_pb2.ReadResponse:
        header, body = command.parse(signed)
        access, receipt = body.access, Receipt(command_id=header.command_id, code=code_pb2.CODE_OK)
        if access.record_id.startswith("refused"):
            receipt.code, receipt.outcome = code_pb2.CODE_FORBIDDEN, code_pb2.OUTCOME_COMMITTED
            return gateway_pb2.ReadResponse(receipt=receipt)
        for says, outcome in (("undone", code_pb2.OUTCOME_NOT_DONE), ("unknown", code_pb2.OUTCOME_UNKNOWN)):
            if access.record_id.startswith(says):
                receipt.code, receipt.outcome = code_pb2.CODE_UNKNOWN_OUTCOME, outcome
                return gateway_pb2.ReadResponse(receipt=receipt)
        stored = self._stored(access)
        place = (self.wallet.address, header.command_id, access.record_id, str(access.version))
        opened = OpenResponse(
            blocks=stored.blocks,
            sealed_data_key=hpke.seal(self.wallet.keys[1], stored.data_key, hpke.DATA_KEY, *place),
            released_by="MercyMSP",
            record=stored.record,
        )
        if self.forges:
            self.forges(self, Forgery(access, header.command_id, opened))
        return gateway_pb2.ReadResponse(receipt=receipt, opened=opened)

    def _stored(self, access: pb.Access) -> Stored:
        place = f"{access.record_id}/{access.version}"
        known = self.stored.get(place)
        if known:
            return known
        content, salt = f"content of {access.record_id}".encode(), envelope.new_salt()
        if access.record_id.startswith("about"):
            subject = {"reference": f"Patient/{access.record_id.removeprefix('about ')}"}
            content = json.dumps({"resourceType": "Observation", "subject": subject}).encode()
        sealed = Sealed(access, content, salt)
        if access.record_id.startswith("changed"):
            content = b"something else"
        record = self.committed.put(
            self.author,
            envelope.commitment(salt, content),
            record_id=access.record_id,
            version=access.version,
            patient=access.patient,
            stored=StoredContent(cid=sealed.cid),
        )
        stored = self.stored[place] = Stored(sealed.blocks, sealed.data_key, record)
        return stored


class Sealed:
    """An envelope, with the key that opens it."""

    def __init__(self, access: pb.Access, content: bytes, salt: bytes) -> None:
        binding = envelope.Binding(access.patient, access.record_id, access.version)
        sealed = envelope.seal(content, salt, binding, "key", _WRITER_KEY)
        self.cid = sealed.cid
        self.blocks = [block for _, block in sealed.blocks]
        self.data_key = envelope.unwrap_data_key(envelope.header(self.blocks[0])[0], _WRITER_KEY, binding)


class Stored(NamedTuple):
    """A record as the mesh has it."""

    blocks: list[bytes]
    data_key: bytes
    record: RecordVersion


@dataclass
class Forgery:
    """What a broken-into gateway has in hands when it answers a reading."""

    access: pb.Access
    command_id: str
    opened: OpenResponse

    def exchange_content(self, gateway: ReadingGateway, content: bytes) -> bytes:
        """Seal another content under a key of the gateway's own, and give its commitment."""
        access, salt = self.access, envelope.new_salt()
        sealed = Sealed(access, content, salt)
        place = (gateway.wallet.address, self.command_id, access.record_id, str(access.version))
        del self.opened.blocks[:]
        self.opened.blocks.extend(sealed.blocks)
        self.opened.sealed_data_key = hpke.seal(
            gateway.wallet.keys[1], sealed.data_key, hpke.DATA_KEY, *place
        )
        self.opened.record.content.cid = sealed.cid
        self.opened.record.content_commitment = envelope.commitment(salt, content)
        return self.opened.record.content_commitment


def content_and_its_commitment(gateway: ReadingGateway, forgery: Forgery) -> None:
    """What was seen: a forged blood group, printed as what its author had committed to."""
    forgery.exchange_content(gateway, b"blood group B")


def all_of_it_with_an_author_of_its_own(gateway: ReadingGateway, forgery: Forgery) -> None:
    """Content, commitment, author and the author's signature, of one piece; but no member's peer says so."""
    commitment = forgery.exchange_content(gateway, b"blood group B")
    rogue = Committed(Network(), people=[Person(Network().mercy)])
    stored = forgery.opened.record.content
    access = forgery.access
    forgery.opened.record.CopyFrom(
        rogue.put(
            rogue.people[0], commitment, record_id=access.record_id, patient=access.patient, stored=stored
        )
    )
    gateway.committed = rogue


def all_of_it_and_one_members_peer(gateway: ReadingGateway, forgery: Forgery) -> None:
    """A whole member has been broken into: its peer signs whatever it is told to, with a certified author."""
    commitment = forgery.exchange_content(gateway, b"blood group B")
    access, record = forgery.access, forgery.opened.record
    record.CopyFrom(
        gateway.committed.put(
            gateway.committed.person(),
            commitment,
            record_id=access.record_id,
            patient=access.patient,
            stored=record.content,
        )
    )
    gateway.committed.network.peers = [gateway.committed.network.mercy.issue("peer")] * 2


def nothing_to_prove_it_with(gateway: ReadingGateway, forgery: Forgery) -> None:
    """It leaves the evidence out."""
    forgery.exchange_content(gateway, b"blood group B")
    forgery.opened.record.record_id = "another"
    gateway.committed.values = {record_key("another", 1): forgery.opened.record.SerializeToString()}


def consortium_of(network: Network) -> Any:
    """What a wallet pins of it."""
    members = {one.msp_id: SimpleNamespace(ca_pem=one.pem) for one in (network.mercy, network.lakeside)}
    orderer = SimpleNamespace(msp_id=network.ordering.msp_id, ca_pem=network.ordering.pem)
    return SimpleNamespace(
        channel=CHANNEL.name,
        signed_channel=CHANNEL,
        chaincode=CHAINCODE,
        members=members,
        orderers=(orderer,),
    )


async def read(gateway: ReadingGateway, *record_ids: str) -> list[Reading | MeshError]:
    records = Records(cast(Connection, gateway))
    return await records.read_many([(PATIENT, record_id, 1) for record_id in record_ids], "TREAT")


async def test_a_reading_that_nobody_has_decided_is_not_said_to_be_refused() -> None:
    undone, unknown = await read(ReadingGateway(), "undone", "unknown")

    assert isinstance(undone, NotSent)
    assert isinstance(unknown, UnknownOutcome)
    assert command.parse(unknown.again[0])[1].access.record_id == "unknown"  # type: ignore[arg-type]


async def test_each_record_has_its_own_outcome_in_the_order_asked_for() -> None:
    first, refused, gone, changed, last = await read(ReadingGateway(), "a", "refused", "gone", "changed", "b")
    assert isinstance(first, Reading)
    assert isinstance(last, Reading)
    assert (first.content, last.content) == (b"content of a", b"content of b")
    assert isinstance(refused, AccessRefused)
    assert [error.code_name for error in (refused, gone, changed) if isinstance(error, MeshError)] == [
        "FORBIDDEN",
        "NOT_FOUND",
        "INTEGRITY",
    ]


@pytest.mark.parametrize(
    "forges",
    [
        content_and_its_commitment,
        all_of_it_with_an_author_of_its_own,
        all_of_it_and_one_members_peer,
        nothing_to_prove_it_with,
    ],
    ids=lambda one: one.__name__,
)
async def test_a_forging_gateway_gets_no_reading_believed(
    forges: Callable[[ReadingGateway, Forgery], None],
) -> None:
    (forged,) = await read(ReadingGateway(forges=forges), "blood-group")
    assert isinstance(forged, MeshError)
    assert forged.code_name == "INTEGRITY"


async def test_a_reading_is_never_made_of_an_answer_without_evidence() -> None:
    gateway = ReadingGateway()
    gateway._prove = lambda answer, reads: None  # type: ignore[method-assign]
    (reading,) = await read(gateway, "a")
    assert isinstance(reading, MeshError)
    assert "no evidence" in reading.reason


async def test_what_was_proven_once_is_not_proven_again() -> None:
    gateway = ReadingGateway()
    records = Records(cast(Connection, gateway))
    places = [(PATIENT, name, 1) for name in ("a", "b")]
    first = await records.read_many(places, "TREAT")
    assert all(isinstance(one, Reading) for one in first)
    again = await records.read_many([*places, (PATIENT, "c", 1)], "TREAT")
    assert [one.content for one in again if isinstance(one, Reading)] == [
        b"content of a",
        b"content of b",
        b"content of c",
    ]
    assert gateway.proven == [2, 1]


async def test_what_did_not_fit_is_read_alone_by_the_same_command() -> None:
    gateway = ReadingGateway()
    readings = await read(gateway, "a", "large", "b")
    assert [reading.content for reading in readings if isinstance(reading, Reading)] == [
        b"content of a",
        b"content of large",
        b"content of b",
    ]
    assert (gateway.calls, len(gateway.alone)) == ([3], 1)


async def test_more_than_a_call_takes_are_several_calls() -> None:
    gateway = ReadingGateway()
    most = reading_module._MOST_READ_TOGETHER
    readings = await read(gateway, *(f"r{number}" for number in range(most + 5)))
    assert gateway.calls == [most, 5]
    assert [reading.content for reading in readings if isinstance(reading, Reading)] == [
        f"content of r{number}".encode() for number in range(most + 5)
    ]
    assert await read(gateway) == []
