"""A FHIR read for a caller who cannot decrypt: the gateway's device reads, inside the caller's delegation,
and the channel says so. What it decrypts is checked against what the author signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Access, SignedCommand
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import ReadResponse
from cbmdhi.protocol import released
from cbmdhi.protocol import resource as resources
from services.gateway.domain import fhir
from services.gateway.domain.session import Session
from services.gateway.sessions.delegated_signer import DelegatedSigner
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def record(self, record_id: str, version: int) -> RecordVersion | None: ...


class RecordReader(Protocol):
    """Submits an access and opens what it permits (services.gateway.reads.reader)."""

    async def read(self, signed: SignedCommand) -> ReadResponse: ...


@dataclass(frozen=True)
class Resource:
    """A resource as its author wrote it."""

    content: bytes = field(repr=False)
    version: int
    written_at_ms: int


class FhirReader:
    """Reads resources for sessions with a delegation. Raises MeshError."""

    def __init__(self, delegated_signer: DelegatedSigner, ledger: Ledger, reader: RecordReader) -> None:
        self._delegated_signer = delegated_signer
        self._ledger = ledger
        self._reader = reader

    async def read(
        self, session: Session, resource_type: str, record_id: str, version: int, purpose: str
    ) -> Resource:
        """One version; 0: the latest. Raises NOT_FOUND (none of that type), FORBIDDEN with the reason."""
        sign = self._delegated_signer.signer(session)
        record = await self._ledger.record(record_id, version)
        if record is None:
            raise _not_found()
        access = Access(
            patient=record.patient,
            record_id=record.record_id,
            version=record.version,
            purpose=purpose,
            action="history" if version else "read",
        )
        answer = await self._reader.read(sign(access))
        receipt = answer.receipt
        if receipt.code != code_pb2.CODE_OK:
            raise MeshError(receipt.code, receipt.reason, receipt.path)
        content = self._open(answer, record)
        resource = _resource(content, record)
        # By the content, since the channel knows no type: only who may read it learns that it is another.
        if resource["resourceType"] != resource_type:
            raise _not_found()
        return Resource(content, record.version, record.written_at_ms)

    def _open(self, answer: ReadResponse, record: RecordVersion) -> bytes:
        """Decrypt, and check against the ledger's own entry, not against what storage says it is."""
        device = self._delegated_signer.device
        reader = released.Recipient(device.address, device.hpke_private, answer.receipt.command_id)
        try:
            return released.open_released(record, answer.opened.blocks, answer.opened.sealed_data_key, reader)
        except released.NotAsCommitted as error:
            raise MeshError(code_pb2.CODE_INTEGRITY, str(error)) from error


def _resource(content: bytes, record: RecordVersion) -> dict[str, Any]:
    """Checked again: it may have been written through a member who did not."""
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
    return resource


def _not_found() -> MeshError:
    return MeshError(code_pb2.CODE_NOT_FOUND, "there is no such resource of this type here")
