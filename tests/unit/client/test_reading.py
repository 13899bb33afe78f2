"""read_many: in order, each with its own outcome, decrypted and checked here."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc

from cbmdhi.client import records as records_module
from cbmdhi.client.connection import Connection
from cbmdhi.client.records import Reading, Records
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import RecordVersion, StoredContent
from cbmdhi.errors import AccessRefused, MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command, envelope, hpke, signature
from cbmdhi.storage.v1.storage_pb2 import OpenResponse
from tests.support.channel import CHANNEL

_WRITER_KEY = bytes(32)
PATIENT = "cb1patient"


@dataclass
class Wallet:
    """As much of a wallet as reading needs."""

    signer: command.KeySigner = field(default_factory=lambda: command.KeySigner(signature.new_private_key()))
    keys: tuple[bytes, bytes] = field(default_factory=hpke.generate)
    consortium: Any = field(default_factory=lambda: SimpleNamespace(signed_channel=CHANNEL))

    @property
    def address(self) -> str:
        return self.signer.address

    @property
    def hpke_private(self) -> bytes:
        return self.keys[0]

    def sign_command(self, raw: bytes) -> pb.SignedCommand:
        return self.signer.sign_command(raw)


@dataclass
class Gateway:
    """Gives each record `content of <record id>`, but for what the record's id says otherwise."""

    wallet: Wallet = field(default_factory=Wallet)
    calls: list[int] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    authenticated: Any = field(default_factory=lambda: grpc.aio.insecure_channel("127.0.0.1:1"))

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, gateway_pb2.ReadRequest):
            self.alone.append(command.parse(request.command)[0].command_id)
            return self._read(request.command)
        self.calls.append(len(request.commands))
        return gateway_pb2.ReadManyResponse(results=[self._result(one) for one in request.commands])

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
            receipt.code = code_pb2.CODE_FORBIDDEN
            return gateway_pb2.ReadResponse(receipt=receipt)
        content, salt = f"content of {access.record_id}".encode(), envelope.new_salt()
        if access.record_id.startswith("about"):
            subject = {"reference": f"Patient/{access.record_id.removeprefix('about ')}"}
            content = json.dumps({"resourceType": "Observation", "subject": subject}).encode()
        binding = envelope.Binding(access.patient, access.record_id, access.version)
        sealed = envelope.seal(content, salt, binding, "key", _WRITER_KEY)
        blocks = [block for _, block in sealed.blocks]
        data_key = envelope.unwrap_data_key(envelope.header(blocks[0])[0], _WRITER_KEY, binding)
        place = (self.wallet.address, header.command_id, access.record_id, str(access.version))
        if access.record_id.startswith("changed"):
            content = b"something else"
        record = RecordVersion(
            record_id=access.record_id,
            version=access.version,
            patient=access.patient,
            category="observations",
            content=StoredContent(cid=sealed.cid),
            content_commitment=envelope.commitment(salt, content),
        )
        opened = OpenResponse(
            blocks=blocks,
            sealed_data_key=hpke.seal(self.wallet.keys[1], data_key, hpke.DATA_KEY, *place),
            released_by="MercyMSP",
            record=record,
        )
        return gateway_pb2.ReadResponse(receipt=receipt, opened=opened)


async def read(gateway: Gateway, *record_ids: str) -> list[Reading | MeshError]:
    records = Records(cast(Connection, gateway))
    return await records.read_many([(PATIENT, record_id, 1) for record_id in record_ids], "TREAT")


async def test_each_record_has_its_own_outcome_in_the_order_asked_for() -> None:
    first, refused, gone, changed, last = await read(Gateway(), "a", "refused", "gone", "changed", "b")
    assert isinstance(first, Reading)
    assert isinstance(last, Reading)
    assert (first.content, last.content) == (b"content of a", b"content of b")
    assert isinstance(refused, AccessRefused)
    assert [error.code_name for error in (refused, gone, changed) if isinstance(error, MeshError)] == [
        "FORBIDDEN",
        "NOT_FOUND",
        "INTEGRITY",
    ]


async def test_a_content_about_another_patient_is_not_shown_whoever_let_it_through() -> None:
    own, others = await read(Gateway(), f"about {PATIENT}", "about cb1another")
    assert isinstance(own, Reading)
    assert isinstance(others, MeshError)
    assert (others.code_name, "another" in others.reason) == ("INTEGRITY", False)


async def test_what_did_not_fit_is_read_alone_by_the_same_command() -> None:
    gateway = Gateway()
    readings = await read(gateway, "a", "large", "b")
    assert [reading.content for reading in readings if isinstance(reading, Reading)] == [
        b"content of a",
        b"content of large",
        b"content of b",
    ]
    assert (gateway.calls, len(gateway.alone)) == ([3], 1)


async def test_more_than_a_call_takes_are_several_calls() -> None:
    gateway = Gateway()
    most = records_module._MOST_READ_TOGETHER
    readings = await read(gateway, *(f"r{number}" for number in range(most + 5)))
    assert gateway.calls == [most, 5]
    assert [reading.content for reading in readings if isinstance(reading, Reading)] == [
        f"content of r{number}".encode() for number in range(most + 5)
    ]
    assert await read(gateway) == []
