"""Users in a closed loop: each sends a record, waits for its receipt, and only then sends the next."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from bench.load.prepare import Item
from bench.load.tally import Kept, Stands, Tally, name
from cbmdhi.client import Client
from cbmdhi.client.ingest import Ingest
from cbmdhi.client.ingest_entries import Entry, GaveUp
from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import cid

_TICK_SECONDS = 0.002
_PATIENCE_SECONDS = 60.0


@dataclass
class Users:
    """`count` users over one stream. Latencies, in seconds, count from when a user was ready to send."""

    count: int
    items: Iterator[Item]
    tally: Tally
    latencies: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._sent: dict[str, tuple[Item, float]] = {}
        self._ready_since = [0.0] * self.count
        self._ends = 0.0

    async def run(self, carrier: Client, seconds: float) -> None:
        """Until `seconds` have passed and the last receipt is there, or patience is at its end."""
        started = time.monotonic()
        self._ready_since = [started] * self.count
        self._ends = started + seconds
        ingest = Ingest(carrier.connection, self._next(), patience_seconds=_PATIENCE_SECONDS)
        try:
            with contextlib.suppress(TimeoutError):
                async with (
                    asyncio.timeout(seconds + _PATIENCE_SECONDS),
                    aclosing(ingest.results()) as results,
                ):
                    async for _, result in results:
                        if result is not None:
                            self._note(result)
        except GaveUp as error:
            raise error.why from error
        self.refused["NO_ANSWER"] += len(self._sent)
        self.seconds = time.monotonic() - started

    async def _next(self) -> AsyncIterator[list[Entry[Item]]]:
        while time.monotonic() < self._ends:
            batch: list[Entry[Item]] = []
            while self._ready_since and (item := next(self.items, None)) is not None:
                self._sent[item.submission_id] = item, self._ready_since.pop()
                batch.append(Entry(item.submission_id, item.message, item))
            if batch:
                yield batch
            await asyncio.sleep(_TICK_SECONDS)

    def _note(self, result: gateway_pb2.IngestResult) -> None:
        item, since = self._sent.pop(result.submission_id)
        now = time.monotonic()
        self._ready_since.append(now)
        entry = gateway_pb2.RecordReceipt() if result.HasField("error") else result.receipts[0]
        receipt = entry.receipt
        code = result.error.code if result.HasField("error") else receipt.code
        if code != code_pb2.CODE_OK:
            self.refused[name(code)] += 1
            return
        self.latencies.append(now - since)
        self.tally.stands[item.number] = Stands(
            receipt.tx_id,
            receipt.block,
            item.command_id,
            item.signer,
            receipt.code,
            entry.stored.cid,
            cid.of_root(entry.stored.root_sha256) if entry.stored.root_sha256 else "",
        )
        self.tally.kept[item.number] = Kept(
            item.patient, item.record_id, item.command_sha256, item.content_sha256
        )
