"""A bundle taken apart keeps its meaning: each entry a record, each reference to a record."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi import fhir
from cbmdhi.client.connection import Connection
from cbmdhi.client.records import NewRecord, Records
from cbmdhi.command.v1.command_pb2 import PutRecord
from cbmdhi.errors import MeshError
from cbmdhi.protocol import command, envelope
from ops.demo import data
from tests.support.channel import CHANNEL

PATIENT = "cb1patient"
ADDRESS = "cb1" + "a" * 32
POST_PATIENT = {"method": "POST", "url": "Patient"}
RECORD = "01a22d4c-e6d0-7195-af6f-7062e602180b"


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


def bundle(*entries: Any, kind: str | None = "transaction", **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **elements}


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"resourceType": "Bundle"}, "Bundle.type"),
        (bundle(kind="searchset"), "Bundle.type"),
        (bundle(), "Bundle.entry"),
        (bundle({"fullUrl": "urn:uuid:1"}), "Bundle.entry[0].request"),
        (bundle("x", kind="batch"), "Bundle.entry[0].request"),
        (
            bundle(*[{"resource": {"resourceType": "Patient"}, "request": POST_PATIENT}] * 2),
            "Bundle.entry[1]",
        ),
        (
            bundle(
                {
                    "resource": {"resourceType": "Observation", "id": RECORD},
                    "request": {"method": "PUT", "url": f"Observation/{RECORD}"},
                }
            ),
            "Bundle.entry[0].request",
        ),
    ],
)
def test_a_malformed_bundle_is_refused_with_its_path(wrong: dict[str, object], path: str) -> None:
    with pytest.raises(MeshError) as caught:
        fhir.records_of(wrong, PATIENT)
    assert (caught.value.code_name, caught.value.path) == ("INVALID", path)
    assert caught.value.nothing_done


def test_a_transaction_is_written_together_and_a_batch_each_by_itself() -> None:
    good = {"resource": {"resourceType": "Observation"}, "request": {"method": "POST", "url": "Observation"}}
    bad = {**good, "request": {"method": "DELETE", "url": "Observation/1"}}
    assert fhir.writes_of(bundle(good, good), PATIENT).together
    batch = fhir.writes_of(bundle(good, bad, good, kind="batch"), PATIENT)
    assert (batch.together, [isinstance(one, MeshError) for one in batch.asked]) == (
        False,
        [False, True, False],
    )
    with pytest.raises(MeshError):
        fhir.writes_of(bundle(good, bad), PATIENT)


@pytest.mark.parametrize("kind", ["document", "message"])
def test_a_document_is_one_record_to_the_byte_with_its_signature(kind: str) -> None:
    signed = {"type": [{"code": "x"}], "when": "2026-01-01T00:00:00Z", "data": "aGk="}
    document = bundle({"resource": {"resourceType": "Composition"}}, kind=kind, id="doc-1", signature=signed)
    raw = json.dumps(document, indent=3).encode()
    [record] = fhir.writes_of(raw, PATIENT).records
    assert (record.content, record.version) == (raw, 1)
    named = json.dumps({**document, "id": RECORD}).encode()
    assert fhir.records_of(named, PATIENT)[0].record_id == RECORD


def test_records_are_signed_as_one_group_each_beside_its_content() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    signer = command.KeySigner(key)
    wallet = SimpleNamespace(
        address=signer.address,
        delegation=None,
        sign_command=signer.sign_command,
        consortium=SimpleNamespace(signed_channel=CHANNEL),
    )
    records = Records(cast(Connection, SimpleNamespace(wallet=wallet)))
    made = fhir.records_of(data.history(seed=7), ADDRESS)
    group, contents = records.prepare_together(made)
    bodies = [command.body_of(signed)[1] for signed in group.commands]
    assert [content.command_index for content in contents] == list(range(len(made)))
    for record, body, content in zip(made, bodies, contents, strict=True):
        assert isinstance(body, PutRecord)
        assert (body.record_id, content.content) == (record.record_id, record.content)
        assert body.content_commitment == envelope.commitment(content.salt, record.content)
    with pytest.raises(MeshError, match="record 2 of 2"):
        records.prepare_together([made[0], NewRecord(ADDRESS, made[1].content)])
    with pytest.raises(MeshError, match="1 to 128"):
        records.prepare_together([])
