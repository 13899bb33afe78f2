"""RecordService: reads, and what a caller may list."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Access, BreakGlass
from cbmdhi.gateway.v1.gateway_pb2 import (
    GetBlobRequest,
    GetBlobResponse,
    GetBrokenGlassRequest,
    GetBrokenGlassResponse,
    GetLatestVersionsRequest,
    GetLatestVersionsResponse,
    GetProofRequest,
    GetProofResponse,
    ListAuditRequest,
    ListAuditResponse,
    ListConsentsRequest,
    ListConsentsResponse,
    ListRecordsRequest,
    ListRecordsResponse,
    ReadManyRequest,
    ReadManyResponse,
    ReadRequest,
    ReadResponse,
    ReadResult,
)
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Evidence, Receipt
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import broken_glass, command, ids
from cbmdhi.protocol import cid as cids
from services.gateway.backends.ledger import Ledger
from services.gateway.backends.storage import Storage
from services.gateway.domain.session import Session
from services.gateway.pipeline.submission import ACCESSES
from services.gateway.reads.latest_versions import LatestVersions
from services.gateway.reads.reader import RecordReader
from services.gateway.reads.search import Search
from services.runtime.callers import Caller
from services.runtime.errors import MeshError, to_detail

_LARGEST_PAGE = 500
_MOST_READS = 100
_MIB = 1024 * 1024
_MOST_BYTES = 15 * _MIB


class Records:
    """RecordService. Raises MeshError."""

    def __init__(
        self,
        reader: RecordReader,
        search: Search,
        latest_versions: LatestVersions,
        ledger: Ledger,
        storage: Storage,
    ) -> None:
        self._latest_versions = latest_versions
        self._reader = reader
        self._search = search
        self._ledger = ledger
        self._storage = storage

    async def read(self, request: ReadRequest, session: Session) -> ReadResponse:
        """Read one version, on the signed word of the caller."""
        _check_read(request.command, session, "command")
        receipt = await self._reader.decide(request.command, session)
        if receipt.code != code_pb2.CODE_OK:
            return ReadResponse(receipt=receipt)
        if request.proven:
            return ReadResponse(receipt=receipt, opened=await self._reader.open(receipt))
        opened, evidence = await asyncio.gather(self._reader.open(receipt), self._evidence([request.command]))
        return ReadResponse(receipt=receipt, opened=opened, evidence=evidence)

    async def read_many(self, request: ReadManyRequest, session: Session) -> ReadManyResponse:
        """Read many versions; one that is not read harms no other."""
        if not request.commands:
            raise MeshError(code_pb2.CODE_INVALID, "nothing is to be read; send 1 to 100", "commands")
        if len(request.commands) > _MOST_READS:
            raise MeshError(
                code_pb2.CODE_TOO_LARGE, f"at most {_MOST_READS} are read at once; send several", "commands"
            )
        answer = ReadManyResponse(results=[ReadResult() for _ in request.commands])
        taken: list[int] = []
        for index, signed in enumerate(request.commands):
            try:
                _check_read(signed, session, f"commands[{index}]")
                taken.append(index)
            except MeshError as err:
                answer.results[index].error.CopyFrom(to_detail(err))
        receipts = await self._reader.decide_many([request.commands[index] for index in taken], session)
        known = frozenset(request.proven)
        unproven = [
            request.commands[index]
            for index, receipt in zip(taken, receipts, strict=True)
            if index not in known and isinstance(receipt, Receipt) and receipt.code == code_pb2.CODE_OK
        ]
        # Whoever is permitted to read a version may have what proves it, whether it is opened or not.
        _, evidence = await asyncio.gather(
            self._fill(answer, taken, receipts), self._evidence(unproven) if unproven else _nothing()
        )
        if evidence is not None:
            answer.evidence.CopyFrom(evidence)
        return answer

    async def get_latest_versions(
        self, request: GetLatestVersionsRequest, session: Session
    ) -> GetLatestVersionsResponse:
        """Which versions an access for the latest names, of what the caller may read or is to break open."""
        if not addresses.is_address(request.patient):
            raise MeshError(code_pb2.CODE_INVALID, "not an address", "patient")
        if not request.record_ids:
            raise MeshError(code_pb2.CODE_INVALID, "no record is named; name 1 to 100", "record_ids")
        if len(request.record_ids) > _MOST_READS:
            raise MeshError(code_pb2.CODE_TOO_LARGE, f"at most {_MOST_READS} at once", "record_ids")
        for index, record_id in enumerate(request.record_ids):
            if not ids.is_uuid7(record_id):
                raise MeshError(
                    code_pb2.CODE_INVALID, "not a UUIDv7 in canonical lower-case text", f"record_ids[{index}]"
                )
        versions = await self._latest_versions.of(
            request.patient, request.record_ids, session, for_break_glass=request.for_break_glass
        )
        return GetLatestVersionsResponse(versions=versions)

    async def _fill(
        self, answer: ReadManyResponse, indexes: Sequence[int], receipts: Sequence[Receipt | BaseException]
    ) -> None:
        size = answer.ByteSize()
        async with aclosing(self._reader.open_many(receipts)) as reads:
            for index in indexes:
                result = answer.results[index]
                if size > _MOST_BYTES:
                    result.error.CopyFrom(to_detail(_full()))
                    continue
                read = await anext(reads)
                if not isinstance(read, MeshError) and size + read.ByteSize() > _MOST_BYTES:
                    read, size = _full(), size + read.ByteSize()
                if isinstance(read, MeshError):
                    result.error.CopyFrom(to_detail(read))
                else:
                    size += read.ByteSize()
                    result.read.CopyFrom(read)

    async def _evidence(self, permitted: Sequence[command.SignedCommand]) -> Evidence:
        """Of what was just read: it concerns who was permitted to read it."""
        accesses = (command.body_of(signed)[1] for signed in permitted)
        versions = {
            (access.record_id, access.version)
            for access in accesses
            if isinstance(access, Access | BreakGlass)
        }
        return await self._ledger.prove_versions(sorted(versions))

    async def list_records(self, request: ListRecordsRequest, session: Session) -> ListRecordsResponse:
        """What the caller may search."""
        return await self._search.records(request, session)

    async def list_consents(self, request: ListConsentsRequest, session: Session) -> ListConsentsResponse:
        """The caller's own consents."""
        return ListConsentsResponse(consents=await self._ledger.consents(session.address))

    async def list_audit(self, request: ListAuditRequest, session: Session) -> ListAuditResponse:
        """The caller's own trail."""
        page = await self._ledger.audit(
            ledger_pb2.ListAuditRequest(
                patient=session.address,
                page_size=min(request.page_size, _LARGEST_PAGE),
                page_token=request.page_token,
            )
        )
        return ListAuditResponse(entries=page.entries, next_page_token=page.next_page_token)

    async def get_broken_glass(
        self, request: GetBrokenGlassRequest, session: Session
    ) -> GetBrokenGlassResponse:
        """What the clinician signed, for a reviewer to whom the reason is sealed."""
        if not ids.is_command_id(request.break_glass_id):
            raise MeshError(
                code_pb2.CODE_INVALID, "not a UUIDv7 in canonical lower-case text", "break_glass_id"
            )
        if not addresses.is_address(request.clinician):
            raise MeshError(code_pb2.CODE_INVALID, "not an address", "clinician")
        signed = await self._ledger.broken_glass(request.break_glass_id, request.clinician)
        if signed is None or session.address not in broken_glass.reviewers(signed):
            raise MeshError(
                code_pb2.CODE_NOT_FOUND,
                "no glass was broken under this id, or its reason was sealed to other reviewers",
                "break_glass_id",
            )
        return GetBrokenGlassResponse(command=signed)

    async def get_proof(self, request: GetProofRequest, caller: Caller | Session) -> GetProofResponse:
        """What the members' peers sign about a command that concerns the caller."""
        if not ids.is_command_id(request.command_id):
            raise MeshError(code_pb2.CODE_INVALID, "not a UUIDv7 in canonical text", "command_id")
        if request.signer and not addresses.is_address(request.signer):
            raise MeshError(code_pb2.CODE_INVALID, "not an address", "signer")
        evidence = await self._ledger.prove_command(request.command_id, request.signer, caller.address)
        return GetProofResponse(evidence=evidence)

    async def get_blob(self, request: GetBlobRequest, session: Session) -> GetBlobResponse:
        """A stored block: ciphertext."""
        try:
            cids.to_bytes(request.cid)
        except ValueError as error:
            raise MeshError(
                code_pb2.CODE_INVALID, "not a CIDv1 (raw or dag-cbor, SHA-256) in lower-case base32", "cid"
            ) from error
        return GetBlobResponse(blob=await self._storage.blob(request.cid))


def _check_read(signed: command.SignedCommand, session: Session, path: str) -> None:
    if signed.signer != session.address:
        raise MeshError(
            code_pb2.CODE_FORBIDDEN, "an access is signed by the caller: sign it yourself", f"{path}.signer"
        )
    try:
        name, _ = command.body_of(signed)
    except command.MalformedCommand as error:
        raise MeshError(code_pb2.CODE_INVALID, "not a command with a body", path) from error
    if name not in ACCESSES:
        raise MeshError(
            code_pb2.CODE_INVALID, "not an Access or a BreakGlass: send it to CommandService", path
        )


async def _nothing() -> None:
    """Nobody needs any evidence."""


def _full() -> MeshError:
    return MeshError(
        code_pb2.CODE_TOO_LARGE,
        f"it does not fit into the {_MOST_BYTES // _MIB} MiB of an answer: send the same command to Read",
    )
