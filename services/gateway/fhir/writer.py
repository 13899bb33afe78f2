"""A FHIR write for a caller who cannot sign each command: the gateway's device signs, inside the caller's
delegation, and the channel says so. Nothing is answered before it is committed and replicated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PutRecord
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import Content, SubmitRequest, SubmitResponse
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import categories, envelope
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.incoming import Incoming
from services.gateway.domain.incoming_bundle import (
    IncomingBundle,
    IncomingEntry,
    in_entry,
    incoming_bundle,
)
from services.gateway.domain.session import Session
from services.gateway.domain.type_tag import TypeTags
from services.gateway.fhir.batch import each_by_itself
from services.gateway.fhir.large_contents import LARGE_BYTES, made, make_bundle, make_resource
from services.gateway.pipeline.refusal_quota import RefusalQuota, RefusalQuotas
from services.gateway.rpc.forward import check_size
from services.gateway.sessions.delegated_signer import DelegatedSigner, SignGroup
from services.runtime.errors import MeshError, copied, nothing_done
from services.runtime.refusal import Refused
from services.runtime.side_process import SideProcess


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def latest_versions(self, record_ids: Sequence[str]) -> list[RecordVersion | None]: ...


class Commands(Protocol):
    """Submits a group (services.gateway.rpc.commands)."""

    async def submit(
        self, request: SubmitRequest, session: Session, *, signed_here: bool = False
    ) -> SubmitResponse: ...


@dataclass(frozen=True)
class Written:
    """A version that is committed, and its receipt. content: as it was committed."""

    kind: str
    record_id: str
    version: int
    receipt: Receipt
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class WrittenBundle:
    """What became of each entry, in order; of a transaction all are written."""

    is_transaction: bool
    entries: Sequence[Written | MeshError]


@dataclass(frozen=True)
class _Turn:
    """A caller's write: what signs it, and what its refusal is charged to."""

    session: Session
    sign: SignGroup
    quota: RefusalQuota


class FhirWriter:
    """Writes resources for sessions with a delegation. Raises MeshError."""

    def __init__(
        self,
        delegated_signer: DelegatedSigner,
        *,
        ledger: Ledger,
        commands: Commands,
        checker: ResourceChecker,
        refused: RefusalQuotas,
        side_process: SideProcess,
        stopping: asyncio.Event,
        drain_seconds: float,
    ) -> None:
        self._delegated_signer = delegated_signer
        self._type_tags = TypeTags(delegated_signer.device.secret)
        self._ledger = ledger
        self._commands = commands
        self._checker = checker
        self._refused = refused
        self._side_process = side_process
        self._stopping = stopping
        self._drain_seconds = drain_seconds

    async def create(self, session: Session, resource_type: str, body: bytes) -> Written:
        """The first version of a record with a new id."""
        return await self._write(session, resource_type, body, uuid7(), 1, names_id=False)

    async def update(
        self, session: Session, resource_type: str, body: bytes, record_id: str, version: int
    ) -> Written:
        """That version of the record; 0: the one after the latest. Raises CONFLICT when it is there, or
        the one before it is not."""
        return await self._write(session, resource_type, body, record_id, version, names_id=True)

    async def bundle(self, session: Session, body: bytes) -> WrittenBundle:
        """A transaction, committed as a whole or refused with the entry that is to blame; or a batch, where
        each entry has its own outcome."""
        turn = self._turn(session)
        with turn.quota.charged(), nothing_done():
            asked = await self._read(session, body)
        if asked.is_transaction:
            with turn.quota.charged(len(asked.written)):
                return WrittenBundle(True, await self._commit(turn, asked.written))
        following: Mapping[str, int] | MeshError
        try:
            following = await self._following(asked.written)
        except MeshError as err:
            following = err

        async def alone(entry: IncomingEntry | Refused, begun: Callable[[], None]) -> Written:
            with turn.quota.charged():
                if isinstance(entry, Refused):
                    raise entry
                if isinstance(following, MeshError) and not entry.version:
                    raise copied(following)
                known = {} if isinstance(following, MeshError) else following
                request, versions = self._request(turn, [entry], known)
                begun()
                return (await self._submitted(turn, request, [entry], versions))[0]

        written = await each_by_itself(asked.entries, alone, self._stopping, self._drain_seconds)
        return WrittenBundle(False, written)

    def _turn(self, session: Session) -> _Turn:
        with nothing_done():
            sign = self._delegated_signer.group_signer(session)
            quota = self._refused.of(session.address)
            quota.check()
        return _Turn(session, sign, quota)

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
        turn = self._turn(session)
        with turn.quota.charged():
            with nothing_done():
                incoming = await self._made(session, body, resource_type, record_id, names_id)
            entry = IncomingEntry(None, resource_type, record_id, version, incoming)
            return (await self._commit(turn, [entry]))[0]

    async def _commit(self, turn: _Turn, entries: Sequence[IncomingEntry]) -> list[Written]:
        """As one group. Raises MeshError with the entry that is to blame."""
        with nothing_done():
            request, versions = self._request(turn, entries, await self._following(entries))
        return await self._submitted(turn, request, entries, versions)

    def _request(
        self, turn: _Turn, entries: Sequence[IncomingEntry], following: Mapping[str, int]
    ) -> tuple[SubmitRequest, Sequence[int]]:
        """The signed group, and the version that each entry writes. Raises MeshError."""
        versions = [entry.version or following[entry.record_id] for entry in entries]
        puts, contents = list[PutRecord](), list[Content]()
        for index, (entry, version) in enumerate(zip(entries, versions, strict=True)):
            put, content = self._put(entry, version, index)
            puts.append(put)
            contents.append(content)
        request = SubmitRequest(group=turn.sign(puts), contents=contents)
        check_size(request)
        return request, versions

    async def _submitted(
        self, turn: _Turn, request: SubmitRequest, entries: Sequence[IncomingEntry], versions: Sequence[int]
    ) -> list[Written]:
        answer = await self._commands.submit(request, turn.session, signed_here=True)
        receipts = [one.receipt for one in answer.receipts]
        _raise_refusal(entries, receipts)
        return [
            Written(entry.kind, entry.record_id, version, receipt, entry.incoming.content)
            for entry, version, receipt in zip(entries, versions, receipts, strict=True)
        ]

    def _put(self, entry: IncomingEntry, version: int, index: int) -> tuple[PutRecord, Content]:
        salt, content = envelope.new_salt(), entry.incoming.content
        put = PutRecord(
            record_id=entry.record_id,
            version=version,
            patient=entry.incoming.patient,
            category=categories.of_resource(entry.kind),
            content_commitment=envelope.commitment(salt, content),
            content_bytes=len(content),
            type_tag=self._type_tags.of(entry.record_id, entry.kind),
        )
        return put, Content(command_index=index, content=content, salt=salt)

    async def _made(
        self, session: Session, body: bytes, resource_type: str, record_id: str, names_id: bool
    ) -> Incoming:
        if len(body) <= LARGE_BYTES:
            return made(self._checker, body, resource_type, record_id, names_id=names_id)
        asked = (body, resource_type, record_id, names_id)
        return await self._side_process.run(make_resource, *asked, caller=session.address, size=len(body))

    async def _read(self, session: Session, body: bytes) -> IncomingBundle:
        if len(body) <= LARGE_BYTES:
            return incoming_bundle(self._checker, body)
        return await self._side_process.run(make_bundle, body, caller=session.address, size=len(body))

    async def _following(self, entries: Sequence[IncomingEntry]) -> Mapping[str, int]:
        """The version after the latest, of each record for which none is asked: one question for all."""
        asked = [entry.record_id for entry in entries if not entry.version]
        latest = await self._ledger.latest_versions(asked) if asked else []
        return {
            record_id: 1 if found is None else found.version + 1
            for record_id, found in zip(asked, latest, strict=True)
        }


def _raise_refusal(entries: Sequence[IncomingEntry], receipts: Sequence[Receipt]) -> None:
    """When a group was refused, with what the command that is to blame was refused for."""
    bad = [(entry, one) for entry, one in zip(entries, receipts, strict=True) if one.code != code_pb2.CODE_OK]
    if not bad:
        return
    telling = [one for one in bad if one[1].code != code_pb2.CODE_GROUP_REFUSED]
    entry, receipt = (telling or bad)[0]
    reason, path = receipt.reason, receipt.path
    if entry.index is not None:
        reason, path = in_entry(entry.index, entry.kind, reason, path)
    raise MeshError(receipt.code, reason, path, outcome=receipt.outcome)
