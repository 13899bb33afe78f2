"""Reads: each decided on the channel first, then opened by storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.gateway.v1.gateway_pb2 import ReadResponse
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from cbmdhi.storage.v1.storage_pb2 import OpenResponse, OpenResult
from services.gateway.domain.session import Session
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.refusal_quota import RefusalQuota, RefusalQuotas
from services.gateway.pipeline.submission import awaited
from services.gateway.reads.open_batcher import OpenBatcher
from services.runtime.errors import MeshError, unexpected

Read = ReadResponse | MeshError


class RecordReader:
    """Submits accesses and opens what they permit. Nothing is opened before the decision is committed."""

    def __init__(self, pipeline: Pipeline, opens: OpenBatcher, refused: RefusalQuotas) -> None:
        self._pipeline = pipeline
        self._opens = opens
        self._refused = refused

    async def read(self, signed: command.SignedCommand) -> ReadResponse:
        """What the gateway's own device has just signed for: receipt, and on a permit what is needed to
        decrypt. Whoever has it sign counts what is refused. Raises MeshError."""
        receipt = await self._decided(signed, None)
        if receipt.code != code_pb2.CODE_OK:
            return ReadResponse(receipt=receipt)
        return ReadResponse(receipt=receipt, opened=await self.open(receipt))

    async def decide(self, signed: command.SignedCommand, session: Session) -> Receipt:
        """The committed decision. Raises MeshError."""
        return await self._decided(signed, self._quota_of(session))

    async def _decided(self, signed: command.SignedCommand, charged: RefusalQuota | None) -> Receipt:
        receipts = await self._pipeline.submit(
            CommandGroup(commands=[signed]),
            (),
            signed.ByteSize(),
            charged=charged,
            signed_here=charged is None,
        )
        return receipts[0].receipt

    def _quota_of(self, session: Session) -> RefusalQuota:
        quota = self._refused.of(session.address)
        quota.check()
        return quota

    async def open(self, permit: Receipt) -> OpenResponse:
        """What a committed permit opens. Raises MeshError."""
        # Of an access sent again the receipt names its first transaction, where the grant stands.
        return await self._opens.open(permit.tx_id, permit.command_id)

    async def decide_many(
        self, commands: Sequence[command.SignedCommand], session: Session
    ) -> list[Receipt | BaseException]:
        """The committed decisions of accesses that came together, in order."""
        charged = self._quota_of(session)
        started = [
            awaited(CommandGroup(commands=[signed]), (), signed.ByteSize(), charged=charged)
            for signed in commands
        ]
        self._pipeline.start(*(one for one, _ in started))
        answers = await asyncio.gather(*(answer for _, answer in started), return_exceptions=True)
        return [answer if isinstance(answer, BaseException) else answer[0].receipt for answer in answers]

    async def open_many(self, receipts: Sequence[Receipt | BaseException]) -> AsyncGenerator[Read]:
        """What came of them, in order. What does not fit beside others is opened when its turn comes, and
        not at all when nobody asks for it: iterate for as long as there is room."""
        opening: list[asyncio.Future[OpenResult] | MeshError | None] = [
            self._begin(receipt) if isinstance(receipt, Receipt) else None for receipt in receipts
        ]
        await asyncio.gather(
            *(one for one in opening if isinstance(one, asyncio.Future)), return_exceptions=True
        )
        for receipt, one in zip(receipts, opening, strict=True):
            if isinstance(receipt, BaseException):
                yield receipt if isinstance(receipt, MeshError) else unexpected(receipt, "read.crashed")
            elif isinstance(one, MeshError):
                yield one
            elif one is None:
                yield ReadResponse(receipt=receipt)
            else:
                yield await self._read(receipt, one)

    def _begin(self, receipt: Receipt) -> asyncio.Future[OpenResult] | MeshError | None:
        if receipt.code != code_pb2.CODE_OK:
            return None
        try:
            return self._opens.enqueue(receipt.tx_id, receipt.command_id)
        except MeshError as err:
            return err

    async def _read(self, receipt: Receipt, opening: asyncio.Future[OpenResult]) -> Read:
        try:
            opened = await self._opens.settled(await opening, receipt.tx_id, receipt.command_id)
        except MeshError as err:
            return err
        return ReadResponse(receipt=receipt, opened=opened)
