"""A bundle taken apart keeps its meaning: each entry a record, each reference to a record."""

from __future__ import annotations

import json

import pytest

from cbmdhi import fhir
from cbmdhi.errors import MeshError
from ops.demo import data

PATIENT = "cb1patient"


def test_a_history_of_over_fifty_resources_becomes_as_many_records() -> None:
    bundle = data.history(seed=7)
    records = fhir.records_of(bundle, PATIENT)
    assert len(records) == len(bundle["entry"]) >= 50
    assert {record.patient for record in records} == {PATIENT}


def test_references_point_to_record_ids_or_the_patients_address_and_none_is_lost() -> None:
    records = fhir.records_of(data.history(seed=7), PATIENT)
    known = {f"{json.loads(record.content)['resourceType']}/{record.record_id}" for record in records}
    known.add(f"Patient/{PATIENT}")
    referenced = {
        part.split('"')[0]
        for record in records
        for part in record.content.decode().split('"reference":"')[1:]
    }
    assert referenced
    assert referenced <= known


def test_each_resource_carries_its_record_id() -> None:
    for record in fhir.records_of(data.history(seed=7), PATIENT):
        assert json.loads(record.content)["id"] == record.record_id


def test_a_lone_resource_is_one_record() -> None:
    [record] = fhir.records_of({"resourceType": "Observation", "status": "final"}, PATIENT)
    assert record.version == 1


@pytest.mark.parametrize(
    ("bundle", "path"),
    [
        ({"resourceType": "Bundle"}, "Bundle.entry"),
        ({"resourceType": "Bundle", "entry": []}, "Bundle.entry"),
        ({"resourceType": "Bundle", "entry": [{"fullUrl": "urn:uuid:1"}]}, "Bundle.entry[0]"),
        ({"resourceType": "Bundle", "entry": ["x"]}, "Bundle.entry[0]"),
        (
            {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Patient"}}] * 2},
            "Bundle.entry[1]",
        ),
    ],
)
def test_a_malformed_bundle_is_refused_with_its_path(bundle: dict[str, object], path: str) -> None:
    with pytest.raises(MeshError) as caught:
        fhir.records_of(bundle, PATIENT)
    assert (caught.value.code_name, caught.value.path) == ("INVALID", path)
