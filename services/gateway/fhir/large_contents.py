"""What is done about large contents in a process of their own: see services.runtime.side_process."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PutRecord
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import Content
from cbmdhi.protocol import resource as resources
from services.gateway.domain import contents, fhir
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.incoming import Incoming, incoming
from services.gateway.domain.incoming_bundle import IncomingBundle, incoming_bundle
from services.gateway.fhir.schema_loader import load_checker
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused

LARGE_BYTES = 48 * 1024
"""From here on. To be parsed and validated a content takes up to 150 us for each KiB."""


@cache
def _checker() -> ResourceChecker:
    return load_checker()[0]


def check_content(put: bytes, content: bytes) -> None:
    """Of serialized PutRecord and Content. Raises Refused."""
    contents.check(PutRecord.FromString(put), Content.FromString(content), _checker())


def make_resource(body: bytes, resource_type: str, record_id: str, names_id: bool) -> Incoming:
    """As `made`, by this process's own checker."""
    return made(_checker(), body, resource_type, record_id, names_id=names_id)


def make_bundle(body: bytes) -> IncomingBundle:
    """As `incoming_bundle`, by this process's own checker."""
    return incoming_bundle(_checker(), body)


def read_type(content: bytes, record: bytes) -> str:
    """As `type_of_record`, of a serialized RecordVersion."""
    return type_of_record(content, RecordVersion.FromString(record))


def type_of_record(content: bytes, record: RecordVersion) -> str:
    """The type of the resource that a record holds. Raises MeshError INTEGRITY.

    Checked again: it may have been written through a member who did not.
    """
    try:
        parsed = fhir.parse(content)
        if not isinstance(parsed, dict):
            raise resources.SaysOtherwise("content", "is not a FHIR resource")
        resource = cast("dict[str, Any]", parsed)
        resources.check(resource, record)
    except Refused as error:
        raise MeshError(
            code_pb2.CODE_INTEGRITY, f"the content is not a FHIR resource as JSON: {error.reason}"
        ) from error
    except resources.SaysOtherwise as error:
        raise MeshError(
            code_pb2.CODE_INTEGRITY, f"the content is not its record's: {error.reason}"
        ) from error
    return str(resource["resourceType"])


def made(
    checker: ResourceChecker, body: bytes, resource_type: str, record_id: str, *, names_id: bool
) -> Incoming:
    """What a body stands for that a plain client sent as a resource of that type. Raises Refused."""
    resource = checker.read(body)
    if resource["resourceType"] != resource_type:
        raise Refused(
            code_pb2.CODE_INVALID, "resourceType is another than the URL's", f"{resource_type}.resourceType"
        )
    return incoming(resource, body, record_id, names_id=names_id)
