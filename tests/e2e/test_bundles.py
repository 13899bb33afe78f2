"""Transactions and documents on a real network: all or nothing, and to the byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cbmdhi import fhir
from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.client.records import NewRecord
from cbmdhi.errors import MeshError
from cbmdhi.protocol.ids import uuid7
from tests.support.mesh import People

pytestmark = pytest.mark.asyncio(loop_scope="session")

A = "urn:uuid:11111111-1111-4111-8111-111111111111"
EXACT = (
    '{{\r\n\t"resourceType" : "Observation","status":"final", "code":{{"text":"M\\u00fcller \\/ µ"}},\r\n'
    ' "valueQuantity":{{"value": 1.10}},"component":[{{"code":{{"text":"a"}},'
    '"valueQuantity":{{"value":1e2}}}}],'
    '"subject":{{"reference":"Patient/{patient}"}} }}\r\n'
)


def post(resource: dict[str, Any], full_url: str = "") -> dict[str, Any]:
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]}}
    return {"fullUrl": full_url, **entry} if full_url else entry


def observation(patient: str, **changes: Any) -> dict[str, Any]:
    about = {"subject": {"reference": f"Patient/{patient}"}, "code": {"text": "test"}}
    return {"resourceType": "Observation", "status": "final", **about, **changes}


def transaction(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


async def held_by(patient: Client) -> set[str]:
    return {entry.record_id for entry in await patient.records.list()}


async def test_of_a_transaction_with_one_bad_entry_nothing_is_there(people: People, patient: Client) -> None:
    me, before = patient.wallet.address, await held_by(patient)
    good, bad = observation(me), observation(me, status="nope", hasMember=[{"reference": A}])
    with pytest.raises(MeshError) as caught:
        await people.engine.records.put_together(fhir.records_of(transaction(post(good, A), post(bad)), me))
    assert (caught.value.code_name, caught.value.path) == ("INVALID", "Observation.status")
    # What the channel alone can know: the version before it is not there.
    records = fhir.records_of(transaction(*[post(observation(me))] * 3), me)
    last = NewRecord(me, records[2].content, records[2].record_id, version=7)
    with pytest.raises(MeshError) as caught:
        await people.engine.records.put_together([*records[:2], last])
    assert caught.value.code_name == "CONFLICT"
    assert await held_by(patient) == before


async def test_a_transaction_is_one_commit_and_its_references_are_followed(
    people: People, patient: Client
) -> None:
    me = patient.wallet.address
    entries = [post(observation(me), A), *[post(observation(me, hasMember=[{"reference": A}]))] * 99]
    records = fhir.records_of(transaction(*entries), me)
    receipts = await people.engine.records.put_together(records)
    assert len({entry.receipt.tx_id for entry in receipts}) == 1
    reading = await patient.records.read(me, records[99].record_id, 1, "PATRQT")
    assert reading.resource["hasMember"] == [{"reference": f"Observation/{records[0].record_id}"}]


async def test_over_rest_a_transaction_is_one_commit_too(people: People, patient: Client) -> None:
    me, before = patient.wallet.address, await held_by(patient)
    mine = observation(me, id=uuid7())
    asked = {"method": "PUT", "url": f"Observation/{mine['id']}", "ifNoneMatch": "*"}
    async with people.mercy_clinician.fhir(actions=["read", "write"]) as session:
        entries = [post(observation(me)), {"resource": mine, "request": asked}]
        answer = await session.bundle(transaction(*entries))
        assert [one["response"]["status"] for one in answer["entry"]] == ["201 Created"] * 2
        with pytest.raises(MeshError) as caught:  # what is there already takes all of it along
            await session.bundle(transaction(*entries))
        assert caught.value.code_name == "CONFLICT"
    assert len(await held_by(patient) - before) == 2


@pytest.mark.parametrize("kind", ["document", "message"])
async def test_a_document_is_read_as_it_was_signed(people: People, patient: Client, kind: str) -> None:
    me = patient.wallet.address
    who = {"display": "x"}
    composition = {
        "resourceType": "Composition",
        "status": "final",
        "type": {"text": "summary"},
        "date": "2026-01-01",
        "author": [who],
        "title": "Summary",
    }
    header = {"resourceType": "MessageHeader", "eventUri": "urn:x", "source": {"endpoint": "urn:y"}}
    document = {
        "resourceType": "Bundle",
        "id": "doc-1",
        "type": kind,
        "identifier": {"system": "urn:x", "value": "doc-1"},
        "timestamp": "2026-01-01T00:00:00Z",
        "entry": [
            {"fullUrl": A, "resource": composition if kind == "document" else header},
            {"fullUrl": f"{A[:-1]}2", "resource": observation(me)},
        ],
        "signature": {"type": [{"code": "x"}], "when": "2026-01-01T00:00:00Z", "who": who, "data": "aGk="},
    }
    raw = json.dumps(document, indent=1).encode()
    [record] = fhir.records_of(raw, me)
    await people.engine.records.put([record])
    assert (await patient.records.read(me, record.record_id, 1, "PATRQT")).content == raw


async def test_the_bytes_of_a_file_are_those_that_are_read_over_either_way(people: People) -> None:
    async with await people.new_patient() as patient:
        raw = EXACT.format(patient=patient.wallet.address).encode()
        record = NewRecord.of(patient.wallet.address, raw)
        await people.engine.records.put([record])
        reading = await patient.records.read(record.patient, record.record_id, 1, "PATRQT")
        assert reading.content == raw
        await patient.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
        async with people.mercy_clinician.fhir() as session:
            found = await session.read("Observation", record.record_id)
        assert [str(one["valueQuantity"]["value"]) for one in (found, reading.resource)] == ["1.10"] * 2
