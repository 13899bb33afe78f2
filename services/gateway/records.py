"""RecordService: reads, and what a caller may list."""

from __future__ import annotations

import asyncio

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.gateway.v1.gateway_pb2 import (
    GetBlobRequest,
    GetBlobResponse,
    GetProofRequest,
    GetProofResponse,
    ListAuditRequest,
    ListAuditResponse,
    ListConsentsRequest,
    ListConsentsResponse,
    ListRecordsRequest,
    ListRecordsResponse,
    ReadRequest,
    ReadResponse,
)
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import command
from services.gateway.domain.session import Session
from services.gateway.ledger import Ledger
from services.gateway.pipeline import Pipeline
from services.gateway.searching import Search
from services.gateway.storage import Storage
from services.runtime.errors import MeshError

_ACCESSES = ("access", "break_glass")
_LARGEST_PAGE = 500
_LONGEST_TX_ID = 128


class Reader:
    """Submits accesses and opens what they permit. Nothing is opened before the decision is committed."""

    def __init__(self, pipeline: Pipeline, storage: Storage) -> None:
        self._pipeline = pipeline
        self._storage = storage

    async def read(self, signed: command.SignedCommand) -> ReadResponse:
        """Receipt, and on a permit what is needed to decrypt. Raises MeshError."""
        answer = self._pipeline.start(CommandGroup(commands=[signed]), (), signed.ByteSize())
        receipt: Receipt = (await asyncio.shield(answer))[0].receipt
        if receipt.code != code_pb2.CODE_OK:
            return ReadResponse(receipt=receipt)
        # Of an access sent again the receipt names its first transaction, where the grant stands.
        opened = await self._storage.open(receipt.tx_id, receipt.command_id)
        return ReadResponse(receipt=receipt, opened=opened)


class Records:
    """RecordService. Raises MeshError."""

    def __init__(self, reader: Reader, search: Search, ledger: Ledger, storage: Storage) -> None:
        self._reader = reader
        self._search = search
        self._ledger = ledger
        self._storage = storage

    async def read(self, request: ReadRequest, session: Session) -> ReadResponse:
        """Read one version, on the signed word of the caller."""
        if request.command.signer != session.address:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN,
                "an access is signed by the caller: sign it yourself",
                "command.signer",
            )
        try:
            name, _ = command.body_of(request.command)
        except command.MalformedCommand as error:
            raise MeshError(code_pb2.CODE_INVALID, "not a command with a body", "command") from error
        if name not in _ACCESSES:
            raise MeshError(
                code_pb2.CODE_INVALID, "not an Access or a BreakGlass: send it to CommandService", "command"
            )
        return await self._reader.read(request.command)

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

    async def get_proof(self, request: GetProofRequest, session: Session) -> GetProofResponse:
        """The block of a transaction."""
        if not request.tx_id or len(request.tx_id) > _LONGEST_TX_ID or not request.tx_id.isalnum():
            raise MeshError(code_pb2.CODE_INVALID, "not a transaction id", "tx_id")
        return GetProofResponse(proof=await self._ledger.proof(request.tx_id))

    async def get_blob(self, request: GetBlobRequest, session: Session) -> GetBlobResponse:
        """A stored block: ciphertext."""
        try:
            cids.to_bytes(request.cid)
        except ValueError as error:
            raise MeshError(
                code_pb2.CODE_INVALID, "not a CIDv1 (raw or dag-cbor, SHA-256) in lower-case base32", "cid"
            ) from error
        return GetBlobResponse(blob=await self._storage.blob(request.cid))
