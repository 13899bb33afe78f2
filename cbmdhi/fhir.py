"""FHIR R4 bundles taken apart into records, with references that go on holding.

FHIR's rules for a transaction (http://hl7.org/fhir/R4/http.html#trules): each entry gets an id of the server,
here its record id, and references to `fullUrl`s are rewritten to it. The Bundle's Patient is the one that the
records are about: references to it become those to the patient's address.
"""

from __future__ import annotations

from typing import Any

from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.protocol.ids import uuid7


def records_of(document: dict[str, Any], patient: str) -> list[NewRecord]:
    """The records of a resource, or of each entry of a Bundle. Raises MeshError INVALID."""
    if document.get("resourceType") != "Bundle":
        return [_record(document, patient)]
    entries = document.get("entry")
    if not isinstance(entries, list) or not entries:
        raise MeshError(code_pb2.CODE_INVALID, "the Bundle has no entries", "Bundle.entry")
    ids = [uuid7() for _ in entries]
    names: dict[str, str] = {}
    patients = 0
    for index, (entry, record_id) in enumerate(zip(entries, ids, strict=True)):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise MeshError(code_pb2.CODE_INVALID, "an entry has no resource", f"Bundle.entry[{index}]")
        kind, place = resource.get("resourceType"), f"{resource.get('resourceType')}/{record_id}"
        if kind == "Patient":
            patients, place = patients + 1, f"Patient/{patient}"
            names[f"Patient/{resource.get('id')}"] = place
        if patients > 1:
            raise MeshError(
                code_pb2.CODE_INVALID,
                "the Bundle has two Patients: send each one's records by themselves",
                f"Bundle.entry[{index}]",
            )
        if "fullUrl" in entry:
            names[str(entry["fullUrl"])] = place
    return [
        NewRecord.of(patient, {**_rewritten(entry["resource"], names), "id": record_id}, record_id)
        for entry, record_id in zip(entries, ids, strict=True)
    ]


def _record(resource: dict[str, Any], patient: str) -> NewRecord:
    record_id = uuid7()
    return NewRecord.of(patient, {**resource, "id": record_id}, record_id)


def _rewritten(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            key: names.get(item, item)
            if key == "reference" and isinstance(item, str)
            else _rewritten(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_rewritten(item, names) for item in value]
    return value
