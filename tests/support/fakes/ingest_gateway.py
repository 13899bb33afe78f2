"""A gateway that takes streams of records, on a real port, and the client at its other end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import grpc

from cbmdhi.client.backoff import Backoff
from cbmdhi.client.connection import Connection
from cbmdhi.client.records import NewRecord, Records
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from services.runtime.errors import MeshError as OfService
from services.runtime.errors import to_status
from tests.support.fakes.evidence import PATIENT
from tests.support.fakes.signing_wallet import SigningWallet


class Timeless(Backoff):
    """Waits that cost no time: its clock goes on by each, so that patience ends as it would."""

    def __init__(self, patience_seconds: float) -> None:
        self._now = 0.0
        super().__init__(patience_seconds, clock=lambda: self._now)

    def next(self, at_least_seconds: float = 0.0) -> float:
        self._now += super().next(at_least_seconds)
        return 0.0


@dataclass
class IngestGateway(gateway_pb2_grpc.IngestServiceServicer):
    """Commits what it takes, but patients whom it refuses; ends each stream when its token's time is over.

    token_seconds  for which a token is said to be good; it is for five times as long: machines are busy
    breaks         each stream in turn breaks after so many messages, the last of them committed unheard
    holds          results come when it is set
    """

    token_seconds: float = 300.0
    breaks: list[int] = field(default_factory=list)
    holds: asyncio.Event = field(default_factory=asyncio.Event)
    ends: dict[str, float] = field(default_factory=dict)
    streams: list[str] = field(default_factory=list)
    committed: dict[str, int] = field(default_factory=dict)
    cut_off: int = 0
    refuses: Callable[[str], OfService | Receipt | None] = lambda _: None

    def __post_init__(self) -> None:
        self.holds.set()

    async def login(self) -> Issued:
        token = f"token-{len(self.ends)}"
        self.ends[f"Bearer {token}"] = asyncio.get_running_loop().time() + 5 * self.token_seconds
        return Issued(token, self.token_seconds)

    async def Ingest(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        bearer = dict(context.invocation_metadata())["authorization"]
        self.streams.append(bearer)
        try:
            async with asyncio.timeout_at(self.ends[bearer]):
                taken, breaks = 0, self.breaks.pop(0) if self.breaks else 1 << 30
                async for request in requests:
                    results = [self._result(item) for item in request.items]
                    taken += 1
                    await self.holds.wait()
                    if taken > breaks:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "killed")
                    yield gateway_pb2.IngestResponse(results=results)
        except TimeoutError:
            self.cut_off += 1
            status = to_status(OfService(code_pb2.CODE_UNAUTHENTICATED, "the token has expired"))
            await context.abort(status.code, status.details, status.trailing_metadata)

    def _result(self, item: gateway_pb2.IngestItem) -> gateway_pb2.IngestResult:
        header, body = command.parse(item.group.commands[0])
        refusal = self.refuses(body.put_record.record_id)
        if isinstance(refusal, OfService):
            detail = code_pb2.ErrorDetail(code=refusal.code, reason=refusal.reason, outcome=refusal.outcome)
            return gateway_pb2.IngestResult(submission_id=item.submission_id, error=detail)
        receipt = Receipt(code=code_pb2.CODE_OK, tx_id="tx", outcome=code_pb2.OUTCOME_COMMITTED)
        receipt.CopyFrom(refusal or receipt)
        receipt.command_id, receipt.signer = header.command_id, item.group.commands[0].signer
        if refusal is None:
            self.committed[header.command_id] = self.committed.get(header.command_id, 0) + 1
        return gateway_pb2.IngestResult(
            submission_id=item.submission_id, receipts=[gateway_pb2.RecordReceipt(receipt=receipt)]
        )


class IngestConnection(Connection):
    """A connection whose logins are the gateway's."""

    def __init__(self, channel: grpc.aio.Channel, gateway: IngestGateway, seconds: float) -> None:
        member = SimpleNamespace(tls_ca_pem="", name="mercy", gateway=None)
        super().__init__(SigningWallet(), member, seconds, first_contact=channel)  # type: ignore[arg-type]
        self._authenticated = channel
        self.tokens = Tokens(gateway.login, chance=random.Random(0))  # noqa: S311 - a draw


@asynccontextmanager
async def serving(gateway: IngestGateway, seconds: float = 10.0) -> AsyncIterator[Records]:
    server = grpc.aio.server()
    gateway_pb2_grpc.add_IngestServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Records(IngestConnection(channel, gateway, seconds))
    await server.stop(0)


def new_record(number: int = 0) -> NewRecord:
    return NewRecord(PATIENT, b'{"resourceType":"Observation"}', f"record-{number}")
