"""A FHIR resource as a plain client sends it, made into what is committed to: with its id, and whose it is.

Rules: http://hl7.org/fhir/R4/http.html#create and #update. All else stays as it was sent, to the
byte: the digits of a decimal are part of what was measured (http://hl7.org/fhir/R4/datatypes.html#decimal).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import resource as resources
from services.runtime.refusal import Refused


@dataclass(frozen=True)
class Incoming:
    """patient: an address. content: the resource as JSON with its id, 16 MiB at most."""

    patient: str
    content: bytes = field(repr=False)


def incoming(resource: dict[str, Any], body: bytes, record_id: str, *, names_id: bool) -> Incoming:
    """What a resource, and the body that it was read from, stands for. Raises Refused with the element.

    names_id  the body has to say this very id, as it does in an update; in a create what it says is replaced
    """
    if names_id and resource.get("id") != record_id:
        path = f"{resource['resourceType']}.id"
        raise Refused(code_pb2.CODE_INVALID, f"{path} is the id of the URL in an update", path)
    try:
        patient = resources.patient_of(resource)
    except resources.SaysOtherwise as error:
        raise Refused(code_pb2.CODE_INVALID, error.reason, error.path) from error
    return Incoming(patient, resources.as_record(body.decode(), record_id, 0, by_server=True).encode())
