"""The run: operations go out when they are due, whatever became of the earlier ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from bench.load.plan import GOOD, Load
from bench.load.prepare import Item
from bench.load.tally import Kept, Stands, Tally
from cbmdhi.client import Client
from cbmdhi.client.ingest import Ingest
from cbmdhi.client.ingest_entries import Entry, GaveUp
from cbmdhi.client.slowed import slowed_name
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import cid

Clock = Callable[[], float]
Reading = Callable[[Sequence[int]], Awaitable[None]]

_TICK_SECONDS = 0.02
_PATIENCE_SECONDS = 60.0
# A reading waits no longer for the others of its chart: at a low rate it goes with fewer, or alone.
_FILL_SECONDS = 0.5


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
    """One feed, over streams that follow one another: before a token ends, and after a break."""

    def __init__(self, load: Load, carrier: Client, feed: Feed, tally: Tally, clock: Clock) -> None:
        self._load = load
        self._connection = carrier.connection
        self._feed = feed
        self._tally = tally
        self._clock = clock

    async def run(self) -> None:
        """Until everything is answered. Raises MeshError when streams break again and again."""
        ingest = Ingest(
            self._connection,
            self._due(),
            patience_seconds=_PATIENCE_SECONDS,
            on_break=self._broke,
            on_slowed=self._slowed,
        )
        try:
            async with aclosing(ingest.results()) as results:
                async for entry, result in results:
                    if result is not None:
                        self._note(entry.what, result, self._clock())
        except GaveUp as error:
            raise error.why from error

    async def _due(self) -> AsyncIterator[list[Entry[Item]]]:
        while not self._feed.done:
            due = self._feed.take_due(self._load, self._clock())
            for item in due:
                self._tally.sent += 1
                self._tally.kept[item.number] = Kept(
                    item.patient, item.record_id, item.command_sha256, item.content_sha256
                )
            if due:
                yield [Entry(item.submission_id, item.message, item) for item in due]
            await asyncio.sleep(_TICK_SECONDS - time.monotonic() % _TICK_SECONDS)

    def _broke(self, _: MeshError) -> None:
        self._tally.breaks += 1

    def _slowed(self, slowed: gateway_pb2.Slowed) -> None:
        self._tally.slowed[slowed_name(slowed)] += 1

    def _note(self, item: Item, result: gateway_pb2.IngestResult, now: float) -> None:
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


def charts(load: Load, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """The readings that go together: as many as a chart has, or as come due within `_FILL_SECONDS`."""
    start = 0
    while start < len(numbers):
        last_due = load.due_seconds(numbers[start]) + _FILL_SECONDS
        end = start + 1
        while end < min(start + load.chart, len(numbers)) and load.due_seconds(numbers[end]) <= last_due:
            end += 1
        yield numbers[start:end]
        start = end


async def read(load: Load, numbers: Sequence[int], reading: Reading, tally: Tally, clock: Clock) -> None:
    """Begin each chart when the last reading of it is due; `reading` notes the result of each.

    Latencies count from when each was due: the wait for the rest of its chart is in them.
    """
    running: set[asyncio.Task[None]] = set()
    for chart in charts(load, numbers):
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
