"""A FHIR read for a caller who cannot decrypt: the gateway's device reads, inside the caller's delegation,
and the channel says so. What it decrypts is checked against what the author signed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Access, SignedCommand
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import ReadResponse
from cbmdhi.protocol import released
from services.gateway.domain.session import Session
from services.gateway.fhir.large_contents import LARGE_BYTES, read_type, type_of_record
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.sessions.delegated_signer import DelegatedSigner, Sign
from services.runtime.errors import MeshError
from services.runtime.side_process import SideProcess


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

    def __init__(
        self,
        delegated_signer: DelegatedSigner,
        ledger: Ledger,
        reader: RecordReader,
        *,
        refused: RefusalQuotas,
        side_process: SideProcess,
    ) -> None:
        self._delegated_signer = delegated_signer
        self._ledger = ledger
        self._reader = reader
        self._refused = refused
        self._side_process = side_process

    async def read(
        self, session: Session, resource_type: str, record_id: str, version: int, purpose: str
    ) -> Resource:
        """One version; 0: the latest. Raises NOT_FOUND (none of that type), FORBIDDEN with the reason."""
        sign = self._delegated_signer.signer(session)
        quota = self._refused.of(session.address)
        quota.check()
        with quota.charged():
            record, answer = await self._permitted(sign, record_id, version, purpose)
        content = self._open(answer, record)
        # By the content, since the channel knows no type: only who may read it learns that it is another.
        if await self._type_of(content, record, session) != resource_type:
            raise _not_found()
        return Resource(content, record.version, record.written_at_ms)

    async def _permitted(
        self, sign: Sign, record_id: str, version: int, purpose: str
    ) -> tuple[RecordVersion, ReadResponse]:
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
            raise MeshError(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
        return record, answer

    async def _type_of(self, content: bytes, record: RecordVersion, session: Session) -> str:
        if len(content) <= LARGE_BYTES:
            return type_of_record(content, record)
        return await self._side_process.run(
            read_type, content, record.SerializeToString(), caller=session.address, size=len(content)
        )

    def _open(self, answer: ReadResponse, record: RecordVersion) -> bytes:
        """Decrypt, and check against the ledger's own entry, not against what storage says it is."""
        device = self._delegated_signer.device
        reader = released.Recipient(device.address, device.hpke_private, answer.receipt.command_id)
        try:
            return released.open_released(record, answer.opened.blocks, answer.opened.sealed_data_key, reader)
        except released.NotAsCommitted as error:
            raise MeshError(code_pb2.CODE_INTEGRITY, str(error)) from error


def _not_found() -> MeshError:
    return MeshError(code_pb2.CODE_NOT_FOUND, "there is no such resource of this type here")
