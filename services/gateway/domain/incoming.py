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
from cbmdhi.protocol import resource as resources
from services.gateway.domain.refusal import Refused

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
    if names_id and resource.get("id") != record_id:
        path = f"{resource['resourceType']}.id"
        raise Refused(code_pb2.CODE_INVALID, f"{path} is the id of the URL in an update", path)
    try:
        patient = resources.patient_of(resource)
    except resources.SaysOtherwise as error:
        raise Refused(code_pb2.CODE_INVALID, error.reason, error.path) from error
    return Incoming(patient, orjson.dumps(resources.as_record(resource, record_id)))
