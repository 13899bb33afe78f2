"""The run: operations go out when they are due, whatever became of the earlier ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from bench.load import wire
from bench.load.plan import GOOD, Load
from bench.load.prepare import Item
from bench.load.tally import Kept, Stands, Tally
from cbmdhi.client import Client
from cbmdhi.client.writing import slowed_name
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import from_rpc
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import cid

Clock = Callable[[], float]
Reading = Callable[[Sequence[int]], Awaitable[None]]

METHOD = "/cbmdhi.gateway.v1.IngestService/Ingest"
_TICK_SECONDS = 0.02
_PATIENCE_SECONDS = 60.0
# A token lives 300 s, and a stream no longer than its token.
_STREAM_SECONDS = 200.0
_BREAKS = 20
_RESENT = (code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_UNAUTHENTICATED)


@dataclass
class Feed:
    """Prepared items of one stream, in the order in which they are due; `ended` when no more will come."""

    items: list[Item] = field(default_factory=list)
    taken: int = 0
    ended: bool = False

    def take_due(self, load: Load, now: float) -> list[Item]:
        """What is due by `now` (seconds after the start) and was not taken yet."""
        first = last = self.taken
        while last < len(self.items) and load.due_seconds(self.items[last].number) <= now:
            last += 1
        self.taken = last
        due = self.items[first:last]
        if self.taken > 20_000:
            # A long run must not keep what it has sent.
            del self.items[: self.taken]
            self.taken = 0
        return due

    @property
    def done(self) -> bool:
        """True when everything was taken and nothing more comes."""
        return self.ended and self.taken >= len(self.items)


async def send(
    load: Load, carriers: Sequence[Client], feeds: Sequence[Feed], tally: Tally, clock: Clock
) -> None:
    """Send what the feeds hold or will hold; ends when each item has its result or patience has run out.

    carriers  who hold the streams open, one for each feed; the commands are signed by their authors
    clock     seconds since the start
    """
    senders = [
        asyncio.create_task(_Sender(load, carrier, feed, tally, clock).run())
        for carrier, feed in zip(carriers, feeds, strict=True)
    ]
    try:
        # What has no answer by then counts as lost.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(load.seconds + _PATIENCE_SECONDS - clock()):
                await asyncio.gather(*senders)
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


class _Sender:
    """One stream; the next is opened before its token ends, and another when it breaks."""

    def __init__(self, load: Load, carrier: Client, feed: Feed, tally: Tally, clock: Clock) -> None:
        self._load = load
        self._connection = carrier.connection
        self._feed = feed
        self._tally = tally
        self._clock = clock
        self._pending: dict[str, Item] = {}
        self._full = asyncio.Event()

    async def run(self) -> None:
        """Until everything is answered. Raises MeshError when the stream breaks again and again."""
        again: list[Item] = []
        breaks = 0
        streams: set[asyncio.Task[None]] = set()
        try:
            while not self._feed.done or self._pending:
                self._full.clear()
                stream = asyncio.create_task(self._stream(again))
                streams.add(stream)
                full = asyncio.create_task(self._full.wait())
                await asyncio.wait({stream, full}, return_when=asyncio.FIRST_COMPLETED)
                full.cancel()
                again = []
                if not stream.done():
                    # It takes no more, and its last receipts come while the next one is open already.
                    continue
                await asyncio.wait(streams)
                broken = [error for ended in streams if (error := ended.exception()) is not None]
                streams.clear()
                if broken:
                    breaks += 1
                    await self._mend(broken[0], breaks)
                again = list(self._pending.values())
        finally:
            for stream in streams:
                stream.cancel()
            await asyncio.gather(*streams, return_exceptions=True)

    async def _mend(self, error: BaseException, breaks: int) -> None:
        """Go on after a break that another try may mend; else raise."""
        if not isinstance(error, grpc.aio.AioRpcError):
            raise error
        ours = from_rpc(error)
        if ours.code not in _RESENT or breaks > _BREAKS:
            raise ours from error
        self._tally.breaks += 1
        self._connection.forget_token()
        await asyncio.sleep(0.2)

    async def _stream(self, again: Sequence[Item]) -> None:
        method = self._connection.authenticated.stream_stream(
            METHOD,
            request_serializer=bytes,
            response_deserializer=gateway_pb2.IngestResponse.FromString,
        )
        if self._clock() > _STREAM_SECONDS:
            self._connection.forget_token()
        call: Any = method(self._requests(again), metadata=await self._connection.metadata())
        try:
            async for response in call:
                now = self._clock()
                if response.HasField("slowed"):
                    self._tally.slowed[slowed_name(response.slowed)] += 1
                for result in response.results:
                    self._note(result, now)
        finally:
            call.cancel()

    async def _requests(self, again: Sequence[Item]) -> AsyncIterator[bytes]:
        for request in wire.requests([item.message for item in again]):
            yield request
        ends = self._clock() + _STREAM_SECONDS
        while not self._feed.done and self._clock() < ends:
            due = self._feed.take_due(self._load, self._clock())
            for item in due:
                self._pending[item.submission_id] = item
                self._tally.sent += 1
                self._tally.kept[item.number] = Kept(
                    item.patient, item.record_id, item.command_sha256, item.content_sha256
                )
            for request in wire.requests([item.message for item in due]):
                yield request
            await asyncio.sleep(_TICK_SECONDS - time.monotonic() % _TICK_SECONDS)
        if not self._feed.done:
            self._full.set()

    def _note(self, result: gateway_pb2.IngestResult, now: float) -> None:
        item = self._pending.pop(result.submission_id, None)
        if item is None:
            return
        if result.HasField("error"):
            self._tally.note(item.number, item.kind, result.error.code, now)
            return
        entry = result.receipts[0]
        receipt = entry.receipt
        # A record that was sent again after a break was committed the first time.
        again = receipt.already_committed and item.kind != GOOD
        self._tally.note(item.number, item.kind, receipt.code, now, again=again)
        if receipt.tx_id:
            self._tally.stands[item.number] = Stands(
                receipt.tx_id,
                receipt.block,
                item.command_id,
                item.signer,
                receipt.code,
                entry.stored.cid,
                cid.of_root(entry.stored.root_sha256) if entry.stored.root_sha256 else "",
            )


async def read(load: Load, numbers: Sequence[int], reading: Reading, tally: Tally, clock: Clock) -> None:
    """Begin each chart when the last reading of it is due; `reading` notes the result of each.

    Latencies count from when each was due: the wait for the rest of its chart is in them.
    """
    running: set[asyncio.Task[None]] = set()
    for start in range(0, len(numbers), load.chart):
        chart = numbers[start : start + load.chart]
        wait = load.due_seconds(chart[-1]) - clock()
        if wait > 0:
            await asyncio.sleep(wait)
        tally.sent += len(chart)
        task = asyncio.ensure_future(reading(chart))
        running.add(task)
        task.add_done_callback(running.discard)
    if running:
        _, late = await asyncio.wait(running, timeout=_PATIENCE_SECONDS)
        for task in late:
            task.cancel()
