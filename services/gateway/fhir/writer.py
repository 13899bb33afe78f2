"""A FHIR write for a caller who cannot sign each command: the gateway's device signs, inside the caller's
delegation, and the channel says so. Nothing is answered before it is committed and replicated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, PutRecord
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import Content, SubmitRequest, SubmitResponse
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import categories, envelope
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.incoming import Incoming
from services.gateway.domain.session import Session
from services.gateway.domain.type_tag import TypeTags
from services.gateway.fhir.large_contents import LARGE_BYTES, made, make_resource
from services.gateway.pipeline.refusal_quota import Allowances
from services.gateway.refusals import refusals
from services.gateway.rpc.forward import check_size
from services.gateway.sessions.delegated_signer import DelegatedSigner, Sign
from services.runtime.errors import MeshError, nothing_done
from services.runtime.side_process import SideProcess


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def record(self, record_id: str, version: int) -> RecordVersion | None: ...


class Commands(Protocol):
    """Submits a group (services.gateway.rpc.commands)."""

    async def submit(self, request: SubmitRequest, session: Session) -> SubmitResponse: ...


@dataclass(frozen=True)
class Written:
    """A version that is committed, and its receipt. content: as it was committed."""

    record_id: str
    version: int
    receipt: Receipt
    content: bytes = field(repr=False)


class FhirWriter:
    """Writes resources for sessions with a delegation. Raises MeshError."""

    def __init__(
        self,
        acting: DelegatedSigner,
        *,
        ledger: Ledger,
        commands: Commands,
        checker: ResourceChecker,
        allowances: Allowances,
        aside: SideProcess,
    ) -> None:
        self._acting = acting
        self._type_tags = TypeTags(acting.device.secret)
        self._ledger = ledger
        self._commands = commands
        self._checker = checker
        self._allowances = allowances
        self._aside = aside

    async def create(self, session: Session, resource_type: str, body: bytes) -> Written:
        """The first version of a record with a new id."""
        return await self._write(session, resource_type, body, uuid7(), 1, names_id=False)

    async def update(
        self, session: Session, resource_type: str, body: bytes, record_id: str, version: int
    ) -> Written:
        """That version of the record; 0: the one after the latest. Raises CONFLICT when it is there, or
        the one before it is not."""
        return await self._write(session, resource_type, body, record_id, version, names_id=True)

    async def _write(
        self,
        session: Session,
        resource_type: str,
        body: bytes,
        record_id: str,
        version: int,
        *,
        names_id: bool,
    ) -> Written:
        with nothing_done():
            sign = self._acting.signer(session)
            allowance = self._allowances.of(session.address)
            if (seconds := allowance.wait_seconds()) > 0:
                raise MeshError(
                    code_pb2.CODE_RESOURCE_EXHAUSTED,
                    "too many of this caller's writes were refused: mend them; send again after the delay",
                    retry_after_ms=int(seconds * 1000) + 1,
                    outcome=code_pb2.OUTCOME_NOT_DONE,
                )
        try:
            with nothing_done():
                incoming = await self._made(session, body, resource_type, record_id, names_id)
                version = version or await self._next_version(record_id)
                request = self._request(sign, incoming, resource_type, record_id, version)
            receipt = (await self._commands.submit(request, session)).receipts[0].receipt
            if receipt.code != code_pb2.CODE_OK:
                raise MeshError(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
        except MeshError as err:
            allowance.note(err)
            raise
        return Written(record_id, version, receipt, incoming.content)

    def _request(
        self, sign: Sign, made: Incoming, resource_type: str, record_id: str, version: int
    ) -> SubmitRequest:
        salt = envelope.new_salt()
        put = PutRecord(
            record_id=record_id,
            version=version,
            patient=made.patient,
            category=categories.of_resource(resource_type),
            content_commitment=envelope.commitment(salt, made.content),
            content_bytes=len(made.content),
            type_tag=self._type_tags.of(record_id, resource_type),
        )
        request = SubmitRequest(
            group=CommandGroup(commands=[sign(put)]),
            contents=[Content(command_index=0, content=made.content, salt=salt)],
        )
        check_size(request)
        return request

    async def _made(
        self, session: Session, body: bytes, resource_type: str, record_id: str, names_id: bool
    ) -> Incoming:
        with refusals():
            if len(body) <= LARGE_BYTES:
                return made(self._checker, body, resource_type, record_id, names_id=names_id)
            asked = (body, resource_type, record_id, names_id)
            return await self._aside.run(make_resource, *asked, caller=session.address, size=len(body))

    async def _next_version(self, record_id: str) -> int:
        latest = await self._ledger.record(record_id, 0)
        return 1 if latest is None else latest.version + 1
