"""A record to be written: as an application has it, and as it is signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import categories, command, envelope, ids, json_text
from cbmdhi.protocol import resource as resources
from cbmdhi.protocol.ids import uuid7

ToSend: TypeAlias = "NewRecord | Prepared | gateway_pb2.IngestItem"
"""A record, to be signed; one that is signed; or what an error gave back, signed as it was."""


@dataclass(frozen=True)
class NewRecord:
    """A version of a record, to be written. `content` is a FHIR R4 resource as JSON.

    NewRecord.of(patient, observation)                          # a new record
    NewRecord.of(patient, corrected, record_id, version=2)      # its next version
    NewRecord(patient, file.read_bytes())                       # the very bytes of a file
    """

    patient: str
    content: bytes = field(repr=False)
    record_id: str = field(default_factory=uuid7)
    version: int = 1

    @classmethod
    def of(
        cls,
        patient: str,
        resource: bytes | str | Mapping[str, Any],
        record_id: str = "",
        version: int = 1,
    ) -> NewRecord:
        """A record of a resource as JSON, or as a dictionary. Raises Misuse for what is no such thing.

        resource   JSON stays as it is, to the byte, but for what it may not say as this record: another id,
                   or another version in its `meta`. A document or message (a Bundle) stays whole. In a
                   dictionary a decimal is a Decimal, written with its digits
        record_id  of a record that is there, or to be there under this id: an `id` in the resource has to be
                   the same. Empty: a new one, which takes the place of the resource's
        """
        is_text = isinstance(resource, bytes | str)
        try:
            content = _as_bytes(resource)
            found = json_text.parse_object(content)
            own = found.get("id")
            if resources.is_kept_whole(found):
                takes_own = isinstance(own, str) and ids.is_uuid7(own)
                return cls(patient, content, record_id or (str(own) if takes_own else uuid7()), version)
            # What names another record than the one that is given is refused, not mended.
            its_id = str(own) if record_id and own is not None else record_id or uuid7()
            text = resources.as_record(content.decode(), its_id, version, by_server=not is_text)
        except json_text.NotJson as error:
            raise Misuse(f"the resource {error}") from error
        return cls(patient, text.encode(), record_id or its_id, version)


def _as_bytes(resource: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(resource, bytes):
        return resource
    return json_text.encode(resource) if isinstance(resource, str) else json_text.dump(resource)


@dataclass(frozen=True)
class Prepared:
    """A signed record with its content: sent again as it is, it has no second effect."""

    record: NewRecord
    item: gateway_pb2.IngestItem

    @classmethod
    def of(cls, item: gateway_pb2.IngestItem) -> Prepared:
        """What an error's `again` holds, as a record that is signed. Raises Misuse when it is none."""
        try:
            body = command.body_of(item.group.commands[0])[1]
        except (IndexError, command.MalformedCommand) as error:
            raise Misuse("this holds no signed command") from error
        if not isinstance(body, pb.PutRecord) or len(item.group.commands) != 1 or not item.contents:
            raise Misuse("this is not a single record: send it again by `client.resend`")
        return cls(NewRecord(body.patient, item.contents[0].content, body.record_id, body.version), item)


def put_record(record: NewRecord, index: int = 0) -> tuple[pb.PutRecord, gateway_pb2.Content]:
    """The body that commits to a record, and the content with the salt of that commitment.

    index  of the command in its group

    Raises MeshError INVALID for a content that says that it is another record's or another patient's.
    """
    salt = envelope.new_salt()
    try:
        resource = json_text.parse_object(record.content)
    except json_text.NotJson as error:
        raise _refused_here(f"the content {error}", "content") from error
    body = pb.PutRecord(
        record_id=record.record_id,
        version=record.version,
        patient=record.patient,
        category=categories.of_resource(str(resource.get("resourceType", ""))),
        content_commitment=envelope.commitment(salt, record.content),
        content_bytes=len(record.content),
    )
    try:
        resources.check(resource, body)
    except resources.SaysOtherwise as error:
        raise _refused_here(error.reason, error.path) from error
    return body, gateway_pb2.Content(command_index=index, content=record.content, salt=salt)


def _refused_here(reason: str, path: str) -> MeshError:
    """Before anything was signed: nothing was sent, and nothing is done."""
    return MeshError(code_pb2.CODE_INVALID, reason, path, outcome=code_pb2.OUTCOME_NOT_DONE)
