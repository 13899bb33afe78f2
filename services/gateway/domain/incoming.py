"""A FHIR resource as a plain client sends it, made into what is committed to: with its id, and whose it is.

Rules: http://hl7.org/fhir/R4/http.html#create and #update. Numbers stay as they were written: the digits of a
decimal are part of what was measured (http://hl7.org/fhir/R4/datatypes.html#decimal).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import address as addresses
from services.gateway.domain.refusal import Refused

# Where types name their patient, by http://hl7.org/fhir/R4/compartmentdefinition-patient.html.
PATIENT_ELEMENTS = ("subject", "patient", "beneficiary", "for", "individual")
_PREFIX = "Patient/"
# The server's own, which a client cannot know beforehand.
_OF_THE_SERVER = ("versionId", "lastUpdated")
_VERBATIM = json.JSONDecoder(parse_float=orjson.Fragment, parse_int=orjson.Fragment)


@dataclass(frozen=True)
class Incoming:
    """patient: an address. content: the resource as JSON with its id, 16 MiB at most."""

    patient: str
    content: bytes = field(repr=False)


def incoming(body: bytes, record_id: str, *, names_id: bool) -> Incoming:
    """What a body that was checked as a FHIR resource stands for. Raises Refused INVALID with the element.

    names_id  the body has to say this very id, as it does in an update; in a create what it says is replaced
    """
    resource = cast("dict[str, Any]", _VERBATIM.decode(body.decode()))
    resource_type = resource.pop("resourceType")
    said = resource.pop("id", None)
    if names_id and said != record_id:
        raise _invalid(f"{resource_type}.id", "is the id of the URL in an update")
    patient = _patient(resource, resource_type)
    meta = {
        name: value
        for name, value in resource.pop("meta", {}).items()
        if name.lstrip("_") not in _OF_THE_SERVER
    }
    kept = {"resourceType": resource_type, "id": record_id, **({"meta": meta} if meta else {}), **resource}
    return Incoming(patient, orjson.dumps(kept))


def _patient(resource: dict[str, Any], resource_type: str) -> str:
    for name in PATIENT_ELEMENTS:
        if (found := resource.get(name)) is None:
            continue
        path = f"{resource_type}.{name}"
        if isinstance(found, list):
            several = cast("list[Any]", found)
            if len(several) != 1:
                raise _invalid(path, "names one patient: a record is about one")
            found = several[0]
        reference = cast("dict[str, Any]", found).get("reference") if isinstance(found, dict) else None
        if isinstance(reference, str) and reference.startswith(_PREFIX):
            address = reference.removeprefix(_PREFIX)
            if addresses.is_address(address):
                return address
        raise _invalid(f"{path}.reference", "names the patient by address here: Patient/cb1…")
    raise _invalid(
        f"{resource_type}.subject",
        f"(or {', '.join(PATIENT_ELEMENTS[1:])}, as its type has it) is needed: the patient, as Patient/cb1…",
    )


def _invalid(path: str, what: str) -> Refused:
    return Refused(code_pb2.CODE_INVALID, f"{path} {what}", path)
