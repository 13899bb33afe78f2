"""What a content says of itself is looked at before it is signed: the wallet signs no contradiction."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cbmdhi import fhir
from cbmdhi.client.connection import Connection
from cbmdhi.client.new_record import put_record
from cbmdhi.client.records import NewRecord, Records
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, NotAllWritten
from cbmdhi.protocol.ids import uuid7
from tests.support.channel import CHANNEL

MINE, OTHER = "cb1" + "a" * 32, "cb1" + "b" * 32
ALLERGY = {"resourceType": "AllergyIntolerance", "patient": {"reference": f"Patient/{OTHER}"}}


class Unsigning:
    """A wallet whose signature nobody may get."""

    consortium = SimpleNamespace(signed_channel=CHANNEL)

    def sign_command(self, raw: bytes) -> Any:
        raise AssertionError("it was signed")


def records() -> Records:
    return Records(
        cast(Connection, SimpleNamespace(wallet=Unsigning(), deadline_seconds=5.0, under_way=set()))
    )


async def test_an_allergy_of_one_patient_is_not_signed_into_the_chart_of_another() -> None:
    with pytest.raises(NotAllWritten, match="1 of 1 records are not written") as caught:
        await records().put(fhir.records_of(ALLERGY, MINE))
    [written] = caught.value.written
    assert written.error is not None
    assert (written.ok, written.error.code_name, written.error.path) == (
        False,
        "INVALID",
        "AllergyIntolerance.patient.reference",
    )


@pytest.mark.parametrize("wrong", [{"id": uuid7()}, {"contained": [ALLERGY]}])
def test_a_record_is_not_signed_under_the_id_of_another_nor_with_another_patients_inside(
    wrong: dict[str, Any],
) -> None:
    resource = {"resourceType": "Observation", "status": "final", **wrong}
    with pytest.raises(MeshError) as caught:
        records().prepare(NewRecord.of(MINE, resource, uuid7()))
    assert caught.value.code_name == "INVALID"


def test_what_was_read_is_written_again_without_the_servers_own_words() -> None:
    read = {"resourceType": "Observation", "id": "old", "meta": {"versionId": "1", "lastUpdated": "2020"}}
    new = NewRecord.of(MINE, read)
    assert json.loads(new.content) == {"resourceType": "Observation", "id": new.record_id}


def test_of_what_is_refused_before_it_is_signed_it_is_certain_that_nothing_was_done() -> None:
    resource = {"resourceType": "Observation", "subject": {"reference": "Patient/somebody-else"}}
    record = NewRecord.of("cb1zcynahh4slrtorcscddpcmjprqj3enok", resource)
    with pytest.raises(MeshError) as caught:
        put_record(record)
    assert (caught.value.code, caught.value.outcome) == (code_pb2.CODE_INVALID, code_pb2.OUTCOME_NOT_DONE)
