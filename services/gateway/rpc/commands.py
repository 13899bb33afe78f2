"""CommandService: one group at a time."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import (
    GetReceiptRequest,
    GetReceiptResponse,
    RecordReceipt,
    SubmitRequest,
    SubmitResponse,
)
from cbmdhi.protocol import ids
from services.gateway.backends.ledger import Ledger
from services.gateway.domain.session import Session
from services.gateway.pipeline.client_quota import ClientQuotas
from services.gateway.pipeline.pipeline import Pipeline
from services.runtime.errors import MeshError


class Commands:
    """Submit and GetReceipt. Raises MeshError."""

    def __init__(self, pipeline: Pipeline, quotas: ClientQuotas, ledger: Ledger) -> None:
        self._pipeline = pipeline
        self._quotas = quotas
        self._ledger = ledger

    async def submit(
        self, request: SubmitRequest, session: Session, *, signed_here: bool = False
    ) -> SubmitResponse:
        """Receipts of a group when it is committed or refused.

        signed_here  by the gateway's own device, a moment ago; whoever has it sign counts what is refused
        """
        client = self._quotas.of(session.address)
        charged = None if signed_here else client.refusals
        if charged is not None:
            charged.check()
        receipts = await self._pipeline.submit(
            request.group,
            request.contents,
            request.ByteSize(),
            client,
            charged=charged,
            signed_here=signed_here,
        )
        return SubmitResponse(receipts=receipts)

    async def get_receipt(self, request: GetReceiptRequest, session: Session) -> GetReceiptResponse:
        """What became of an earlier command of the caller's."""
        if not ids.is_command_id(request.command_id):
            raise MeshError(code_pb2.CODE_INVALID, "not a UUIDv7 in canonical lower-case text", "command_id")
        receipt = await self._ledger.receipt(request.command_id, session.address)
        if receipt is None:
            raise MeshError(
                code_pb2.CODE_NOT_FOUND,
                "no such command of the caller's is committed as far as this member knows: send it again",
                "command_id",
            )
        return GetReceiptResponse(receipt=RecordReceipt(receipt=receipt))
