"""What a FHIR resource says of itself: whose it is, which record and version. The table is in docs/fhir.md.

The command says so too, signed; a resource that says otherwise is refused by every way in, and again when it
is read. Pure, and without a schema: what is not shaped as FHIR has it says nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol, cast

from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import categories, ids, json_text

# Where types name their patient, by http://hl7.org/fhir/R4/compartmentdefinition-patient.html.
PATIENT_ELEMENTS = ("subject", "patient", "beneficiary", "for", "individual", "candidate")
# The server's own, which a client cannot know beforehand (http://hl7.org/fhir/R4/resource.html#Meta).
_OF_THE_SERVER = ("versionId", "lastUpdated")
# A relative reference, or an absolute one to any member's gateway: an address is the same everywhere.
_OF_A_PATIENT = re.compile(r"(?:https?://[^\s?#]+/)?Patient/([^/?#\s]+)(?:/_history/[^/?#\s]+)?")
_BY_ADDRESS = "names the patient of the record, by address: Patient/cb1…"

Json = dict[str, Any]


class SaysOtherwise(Exception):
    """The resource is another's than its record. path: `Observation.subject.reference`; reason: no values."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} {what}")
        self.path = path
        self.reason = f"{path} {what}"


class Record(Protocol):
    """What the command says: a PutRecord, or the RecordVersion that the channel has of it."""

    @property
    def record_id(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def patient(self) -> str: ...
    @property
    def category(self) -> str: ...


def check(resource: Json, record: Record) -> None:
    """Check type, id, version and patient, in contained resources and Bundles too. Raises SaysOtherwise."""
    kind = str(resource.get("resourceType"))
    if (wanted := categories.of_resource(kind)) != record.category:
        raise SaysOtherwise("body.put_record.category", f"is {wanted} for a resource of this type")
    own_id, kept_whole = resource.get("id", record.record_id), is_kept_whole(resource)
    if own_id != record.record_id and not (kept_whole and _is_no_records(own_id)):
        raise SaysOtherwise(f"{kind}.id", "is the record's id, or left out")
    own_version = _member(resource.get("meta"), "versionId")
    if own_version not in (None, "", str(record.version)) and not kept_whole:
        raise SaysOtherwise(f"{kind}.meta.versionId", "is the record's version, or left out")
    everything = [(kind, resource)]
    if "contained" in resource or kind in ("Bundle", "Parameters"):
        everything = list(_all_in(resource, kind))
    own = _names_of_the_own_patient(everything, record)
    for path, one in everything:
        for where, reference in _patients_named(one, path):
            if reference not in own and _patient_in(reference) != record.patient:
                raise SaysOtherwise(where, _BY_ADDRESS)


def is_kept_whole(resource: Json) -> bool:
    """A document or a message: one thing, under one signature. Its id and version are those that it had where
    it was made (http://hl7.org/fhir/R4/documents.html, messaging.html)."""
    return resource.get("resourceType") == "Bundle" and resource.get("type") in ("document", "message")


def patient_of(resource: Json) -> str:
    """The address of the patient that a resource names. Raises SaysOtherwise when it names none, or two."""
    kind = str(resource.get("resourceType"))
    for name in PATIENT_ELEMENTS:
        found = resource.get(name)
        if found is None:
            continue
        if isinstance(found, list):
            several = cast("list[Any]", found)
            if len(several) != 1:
                raise SaysOtherwise(f"{kind}.{name}", "names one patient: a record is about one")
            found = several[0]
        address = _patient_in(_member(found, "reference"))
        if not addresses.is_address(address):
            raise SaysOtherwise(f"{kind}.{name}.reference", "names the patient by address here: Patient/cb1…")
        return address
    raise SaysOtherwise(
        f"{kind}.subject",
        f"(or {', '.join(PATIENT_ELEMENTS[1:])}, as its type has it) is needed: the patient, as Patient/cb1…",
    )


def as_record(text: str, record_id: str, version: int, *, by_server: bool = False) -> str:
    """The text of a resource, with what it may not say as this version of this record taken out or replaced,
    and every other byte as it was: an `id` of its own becomes the record's; another `meta.versionId` goes,
    and its time, `lastUpdated`, with it.

    text       was parsed (`json_text`) and is an object
    by_server  as a server creates it (http://hl7.org/fhir/R4/http.html#create): it says its id, and nothing
               of what in `meta` a server fills in
    """
    start = json_text.start_of(text)
    found = json_text.members(text, start)
    places = {member.name: member for member in found}
    own, meta = places.get("id"), places.get("meta")
    changes: list[tuple[int, int, str]] = []
    if own is not None:
        if text[own.value : own.end] != json_text.quoted(record_id):
            changes.append((own.value, own.end, json_text.quoted(record_id)))
    elif by_server:
        new = f'"id":{json_text.quoted(record_id)}'
        kind = places.get("resourceType")
        after, added = (kind.end, f",{new}") if kind else (start + 1, f"{new}," if found else new)
        changes.append((after, after, added))
    if meta is not None and text[meta.value] == "{":
        inside_it = json_text.members(text, meta.value)
        said = {member.name: text[member.value : member.end] for member in inside_it}
        if by_server or said.get("versionId", f'"{version}"') != f'"{version}"':
            served = {name for name in said if name.lstrip("_") in _OF_THE_SERVER}
            # FHIR has no empty objects.
            whole = len(served) == len(said)
            changes += json_text.without(found, {"meta"}) if whole else json_text.without(inside_it, served)
    return json_text.changed(text, changes)


def inside(resource: Json, path: str) -> Iterator[tuple[str, Any]]:
    """Resources that lie directly in one (contained, in a Bundle, in Parameters), with their paths."""
    for index, contained in enumerate(_list(resource.get("contained"))):
        yield f"{path}.contained[{index}]", contained
    if resource.get("resourceType") == "Bundle":
        for index, entry in enumerate(_list(resource.get("entry"))):
            where = f"{path}.entry[{index}]"
            if (found := _member(entry, "resource")) is not None:
                yield f"{where}.resource", found
            if (found := _member(_member(entry, "response"), "outcome")) is not None:
                yield f"{where}.response.outcome", found
    if resource.get("resourceType") == "Parameters":
        yield from _in_parameters(resource.get("parameter"), f"{path}.parameter")


def _in_parameters(parameters: object, path: str) -> Iterator[tuple[str, Any]]:
    for index, parameter in enumerate(_list(parameters)):
        if (found := _member(parameter, "resource")) is not None:
            yield f"{path}[{index}].resource", found
        yield from _in_parameters(_member(parameter, "part"), f"{path}[{index}].part")


def _all_in(resource: Json, path: str) -> Iterator[tuple[str, Json]]:
    waiting: list[tuple[str, Any]] = [(path, resource)]
    while waiting:
        where, one = waiting.pop()
        if isinstance(one, dict):
            found = cast("Json", one)
            yield where, found
            waiting.extend(inside(found, where))


def _names_of_the_own_patient(everything: list[tuple[str, Json]], record: Record) -> set[str]:
    """How the resource refers to a Patient that it carries itself: that one is the record's patient."""
    patients = [(path, one) for path, one in everything[1:] if one.get("resourceType") == "Patient"]
    if not patients:
        return set()
    if len(patients) > 1 or everything[0][1].get("resourceType") == "Patient":
        raise SaysOtherwise(patients[-1][0], "is a second Patient: a record is about one")
    path, patient = patients[0]
    own = patient.get("id")
    if not isinstance(own, str):
        own = ""
    if addresses.is_address(own) and own != record.patient:
        raise SaysOtherwise(f"{path}.id", "is the address of the record's patient, or none")
    names = {f"#{own}", f"Patient/{own}"} if own else set[str]()
    bundle = everything[0][1]
    for entry in _list(bundle.get("entry")):
        full_url = _member(entry, "fullUrl")
        if _member(entry, "resource") is patient and isinstance(full_url, str):
            if (said := _patient_in(full_url)) != record.patient and addresses.is_address(said):
                raise SaysOtherwise(path, "has the full URL of another patient than the record's")
            names.add(full_url)
    return names


def _patients_named(resource: Json, path: str) -> Iterator[tuple[str, str]]:
    """Each literal reference where the type names its patient; and addresses that stand as identifiers."""
    if resource.get("resourceType") == "Patient":
        for index, identifier in enumerate(_list(resource.get("identifier"))):
            yield from _by_identifier(identifier, f"{path}.identifier[{index}]")
    for name in PATIENT_ELEMENTS:
        found = resource.get(name)
        if found is None:
            continue
        several: list[Any] = cast("list[Any]", found) if isinstance(found, list) else [found]
        for one in several:
            if isinstance(reference := _member(one, "reference"), str):
                yield f"{path}.{name}.reference", reference
            yield from _by_identifier(_member(one, "identifier"), f"{path}.{name}.identifier")


def _by_identifier(identifier: object, path: str) -> Iterator[tuple[str, str]]:
    value = _member(identifier, "value")
    if isinstance(value, str) and addresses.is_address(value):
        yield path, f"Patient/{value}"


def _patient_in(reference: object) -> str:
    """The id of the Patient that a reference is to; empty for another."""
    found = _OF_A_PATIENT.fullmatch(reference) if isinstance(reference, str) else None
    return found[1] if found else ""


def _is_no_records(own_id: object) -> bool:
    """Whether nobody can take it for the id of another record."""
    return not (isinstance(own_id, str) and ids.is_uuid7(own_id))


def _member(value: object, name: str) -> Any:
    return cast("Json", value).get(name) if isinstance(value, dict) else None


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
