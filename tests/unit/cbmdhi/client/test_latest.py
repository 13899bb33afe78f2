"""Without a version a read means the latest, whatever the gateway says; the channel has the last word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cbmdhi.client.connection import Connection
from cbmdhi.client.records import Reading, Records
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import AccessRefused, Misuse
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import command
from tests.unit.cbmdhi.client.test_reading import PATIENT, ReadingGateway


@dataclass
class Amended(ReadingGateway):
    """Its records have versions.

    latest  how many each has on the channel; one by default
    says    what the gateway answers in turn, whatever is the case
    """

    latest: dict[str, int] = field(default_factory=dict)
    says: list[int] = field(default_factory=list)
    looked: list[list[str]] = field(default_factory=list)
    accesses: list[pb.Access] = field(default_factory=list)

    async def call(self, method: Any, request: Any) -> Any:
        if not isinstance(request, gateway_pb2.GetLatestVersionsRequest):
            return await super().call(method, request)
        self.looked.append(list(request.record_ids))
        versions = [self.says.pop(0) if self.says else self.latest.get(one, 1) for one in request.record_ids]
        return gateway_pb2.GetLatestVersionsResponse(versions=versions)

    def _read(self, signed: pb.SignedCommand) -> gateway_pb2.ReadResponse:
        access = command.parse(signed)[1].access
        self.accesses.append(access)
        newest = self.latest.get(access.record_id, 1)
        if access.version < newest and access.action == "read":
            read = gateway_pb2.ReadResponse()
            read.receipt.code, read.receipt.outcome = code_pb2.CODE_FORBIDDEN, code_pb2.OUTCOME_COMMITTED
            read.receipt.reason, read.receipt.path = "there is a newer version", "body.access.version"
            return read
        return super()._read(signed)

    @property
    def versions(self) -> list[int]:
        """Those that were asked for, in order."""
        return [access.version for access in self.accesses]


def records(gateway: ReadingGateway) -> Records:
    return Records(cast(Connection, gateway))


async def test_a_read_without_a_version_is_of_the_latest() -> None:
    gateway = Amended(latest={"a": 3})
    reading = await records(gateway).read(PATIENT, "a", purpose="TREAT")
    assert (reading.record.version, gateway.versions) == (3, [3])


async def test_a_gateway_that_passes_off_an_old_version_as_the_latest_is_found_out() -> None:
    gateway = Amended(latest={"a": 2}, says=[1] * 10)
    with pytest.raises(AccessRefused, match="newer version"):
        await records(gateway).read(PATIENT, "a", purpose="TREAT")
    assert gateway.versions == [1, 1, 1]


async def test_a_version_that_was_written_meanwhile_is_read_in_its_place() -> None:
    gateway = Amended(latest={"a": 2}, says=[1, 2])
    reading = await records(gateway).read(PATIENT, "a", purpose="TREAT")
    assert (reading.record.version, gateway.versions) == (2, [1, 2])


async def test_what_no_gateway_knows_is_asked_of_the_channel_all_the_same() -> None:
    gateway = Amended(says=[0])
    reading = await records(gateway).read(PATIENT, "a", purpose="TREAT")
    assert (reading.content, gateway.versions) == (b"content of a", [1])


async def test_a_chart_names_records_and_has_their_latest_versions_in_one_question() -> None:
    gateway = Amended(latest={"b": 2}, says=[1, 1])
    found = await records(gateway).read_many([(PATIENT, "a"), (PATIENT, "b", 2), (PATIENT, "c", 0)], "TREAT")
    assert gateway.looked == [["a", "c"]]
    assert [access.version for access in gateway.accesses] == [1, 2, 1]
    assert isinstance(found[0], Reading)


async def test_one_of_a_chart_that_was_amended_meanwhile_is_read_again_alone() -> None:
    gateway = Amended(latest={"b": 2}, says=[1, 1, 2])
    found = await records(gateway).read_many([(PATIENT, "a"), (PATIENT, "b")], "TREAT")
    assert all(isinstance(one, Reading) for one in found)
    assert [(access.record_id, access.version) for access in gateway.accesses] == [
        ("a", 1),
        ("b", 1),
        ("b", 2),
    ]


async def test_a_version_that_is_named_is_the_one_that_is_read() -> None:
    gateway = Amended(latest={"a": 2})
    with pytest.raises(AccessRefused, match="newer version"):
        await records(gateway).read(PATIENT, "a", 1, "TREAT")
    reading = await records(gateway).read(PATIENT, "a", 1, "TREAT", "history")
    assert reading.content == b"content of a"
    assert gateway.looked == []
    with pytest.raises(Misuse, match="named with its version"):
        await records(gateway).read(PATIENT, "a", action="history")


async def test_who_says_no_purpose_reads_for_treatment_and_their_own_as_the_patient() -> None:
    gateway = Amended()
    await records(gateway).read(PATIENT, "a")
    await records(gateway).read(gateway.wallet.address, "b")
    assert [access.purpose for access in gateway.accesses] == ["TREAT", "PATRQT"]
