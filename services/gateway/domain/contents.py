"""The contents of a group: one for each PutRecord, as its author committed to it."""

from __future__ import annotations

from collections.abc import Iterable

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PutRecord
from cbmdhi.gateway.v1.gateway_pb2 import Content
from cbmdhi.protocol import envelope
from cbmdhi.protocol import resource as resources
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.group import Parsed
from services.runtime.refusal import Refused


def match(commands: tuple[Parsed, ...], contents: Iterable[Content]) -> dict[int, Content]:
    """The contents by the index of their PutRecord. Raises Refused unless each has exactly one."""
    found: dict[int, Content] = {}
    for position, content in enumerate(contents):
        path, index = f"contents[{position}].command_index", content.command_index
        if index >= len(commands) or commands[index].put is None:
            raise Refused(code_pb2.CODE_INVALID, "there is no PutRecord at this index of the group", path)
        if index in found:
            raise Refused.invalid("the PutRecord has two contents: send exactly one", path).at(index)
        found[index] = content
    for index, parsed in enumerate(commands):
        if parsed.put is not None and index not in found:
            raise Refused.invalid("the PutRecord has no content: send exactly one", "contents").at(index)
    return found


def check(put: PutRecord, content: Content, checker: ResourceChecker) -> None:
    """Length, commitment, FHIR, and that it says of itself what the command says. Raises Refused."""
    if len(content.salt) != envelope.SALT_BYTES:
        raise Refused(code_pb2.CODE_INVALID, "the salt is not 32 bytes", "contents.salt")
    if len(content.content) != put.content_bytes:
        raise Refused(
            code_pb2.CODE_INVALID,
            "the content does not have as many bytes as the command says",
            "body.put_record.content_bytes",
        )
    if envelope.commitment(content.salt, content.content) != put.content_commitment:
        raise Refused(
            code_pb2.CODE_INTEGRITY,
            "the content is not what the author committed to: SHA-256(salt || content) differs",
            "body.put_record.content_commitment",
        )
    try:
        resources.check(checker.read(content.content), put)
    except resources.SaysOtherwise as error:
        raise Refused(code_pb2.CODE_INVALID, error.reason, error.path) from error
