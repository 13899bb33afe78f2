"""What was released to a wallet, decrypted and compared with the version that was proven."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.errors import MeshError
from cbmdhi.protocol import json_text, released
from cbmdhi.protocol import resource as resources
from cbmdhi.storage.v1.storage_pb2 import OpenResponse


def content_of(
    record: RecordVersion, patient: str, opened: OpenResponse, reader: released.Recipient
) -> bytes:
    """The content of a proven version of that patient's. Raises MeshError INTEGRITY."""
    try:
        if record.patient != patient:
            raise released.NotAsCommitted("the record is another patient's than the one asked for")
        content = released.open_released(record, opened.blocks, opened.sealed_data_key, reader)
    except released.NotAsCommitted as error:
        raise MeshError(code_pb2.CODE_INTEGRITY, str(error)) from error
    # What no two programs read alike is given as bytes alone.
    with suppress(json_text.NotJson):
        try:
            resources.check(json_text.parse_object(content), record)
        except resources.SaysOtherwise as error:
            raise MeshError(
                code_pb2.CODE_INTEGRITY, f"the content is not its record's: {error.reason}"
            ) from error
    return content


def as_resource(content: bytes) -> dict[str, Any]:
    """The content as a FHIR resource; a decimal is a Decimal, with its digits. Raises MeshError INTEGRITY."""
    try:
        return json_text.parse_object(content)
    except json_text.NotJson as error:
        raise MeshError(code_pb2.CODE_INTEGRITY, f"the content is no FHIR resource: it {error}") from error
