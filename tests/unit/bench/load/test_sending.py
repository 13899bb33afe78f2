"""The sender against a gateway that answers, breaks, or lets streams live for a moment only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc

from bench.load import run
from bench.load.plan import GOOD, Load
from bench.load.prepare import Item
from bench.load.run import Feed
from bench.load.tally import Tally
from cbmdhi.client import Client
from cbmdhi.client.connection import Connection
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc

LOAD = Load(rate=200.0, seconds=0.5)


@dataclass
class Gateway(gateway_pb2_grpc.IngestServiceServicer):
    """Commits everything; breaks the stream after `breaks_after` submissions, once."""

    breaks_after: int = 0
    seen: list[str] = field(default_factory=list)
    streams: int = 0

    async def Ingest(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        yield gateway_pb2.IngestResponse(slowed=gateway_pb2.Slowed(reason=1, retry_after_ms=10))  # type: ignore[arg-type]
        async for request in request_iterator:
            for item in request.items:
                self.seen.append(item.submission_id)
                if self.breaks_after and len(self.seen) > self.breaks_after:
                    self.breaks_after = 0
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
                receipt = gateway_pb2.RecordReceipt()
                receipt.receipt.code = code_pb2.CODE_OK
                receipt.receipt.tx_id = "tx"
                result = gateway_pb2.IngestResult(submission_id=item.submission_id, receipts=[receipt])
                yield gateway_pb2.IngestResponse(results=[result])


class Open(Connection):
    """A connection whose tokens are good for `token_seconds`."""

    def __init__(self, channel: grpc.aio.Channel, token_seconds: float) -> None:
        member = SimpleNamespace(tls_ca_pem="", name="mercy", gateway=None)
        super().__init__(SimpleNamespace(), member, first_contact=channel)  # type: ignore[arg-type]
        self._authenticated = channel
        self.logins, self._seconds = 0, token_seconds
        self.tokens = Tokens(self._logged_in)

    async def _logged_in(self) -> Issued:
        self.logins += 1
        return Issued(f"token-{self.logins}", self._seconds)


@dataclass
class Carrier:
    connection: Connection


async def sent_to(gateway: Gateway, token_seconds: float = 300.0) -> Tally:
    server = grpc.aio.server()
    gateway_pb2_grpc.add_IngestServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    tally, feed = Tally(LOAD), Feed([_item(number) for number in range(LOAD.operations)], ended=True)
    started = time.monotonic()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            carrier = cast(Client, Carrier(Open(channel, token_seconds)))
            await run.send(LOAD, [carrier], [feed], tally, lambda: time.monotonic() - started)
    finally:
        await server.stop(None)
    return tally


async def test_each_record_is_sent_once_and_its_answer_counted() -> None:
    gateway = Gateway()
    tally = await sent_to(gateway)
    assert gateway.seen == [str(number) for number in range(LOAD.operations)]
    assert (tally.committed, tally.breaks, tally.in_flight, gateway.streams) == (100, 0, 0, 1)
    assert tally.slowed == {"too many submissions were refused": 1}


async def test_after_a_break_what_has_no_answer_is_sent_again_and_nothing_else() -> None:
    gateway = Gateway(breaks_after=30)
    tally = await sent_to(gateway)
    assert (tally.committed, tally.breaks) == (100, 1)
    assert set(gateway.seen) == {str(number) for number in range(LOAD.operations)}
    assert gateway.seen.count("0") == 1


async def test_a_stream_is_followed_by_another_before_its_token_ends_whatever_tokens_live() -> None:
    gateway = Gateway()
    tally = await asyncio.wait_for(sent_to(gateway, token_seconds=0.1), 30)
    assert gateway.streams > 2
    assert len(gateway.seen) == tally.committed == 100
    assert tally.breaks == 0


def _item(number: int) -> Item:
    message = gateway_pb2.IngestItem(submission_id=str(number)).SerializeToString()
    return Item(number, GOOD, message, str(number), f"c{number}", "s", "p", "r", b"", b"")
