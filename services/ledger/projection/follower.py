"""Follows the own peer's blocks: into the projection, and from there to JetStream.

There are two followers with a checkpoint each, so that the projection keeps up while NATS is down. The
publisher never overtakes the projection, so a published transaction is in the lists already. Both may repeat
a block after a crash; neither skips one.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog
from opentelemetry.trace import SpanKind

from cbmdhi.command.v1 import code_pb2
from fabric_gateway import BlockEventsError, FabricError
from services.ledger.channel.ports import Channel
from services.ledger.domain.transactions import MalformedState, event_of
from services.ledger.metrics import LedgerMetrics
from services.ledger.projection.committed import Checkpoint, CommittedBlock, check_continues, committed
from services.ledger.projection.projection import PROJECTION, PUBLICATION, Projection
from services.ledger.projection.read_ahead import gathered
from services.ledger.traces import Traces
from services.runtime import tracing
from services.runtime.errors import MeshError, code_name
from services.runtime.publisher import TRANSACTION_COMMITTED, Publisher

_log = structlog.get_logger()

_RECENT_BLOCKS = 32
_BLOCKS_TOGETHER = 8
_LONGEST_DELAY_SECONDS = 5.0
"""Longest pause between two attempts. A follower never gives up."""


class RecentBlocks:
    """The last blocks, so that the publisher need not ask the peer again. Bounded."""

    def __init__(self, most: int = _RECENT_BLOCKS) -> None:
        self._most = most
        self._blocks: OrderedDict[int, CommittedBlock] = OrderedDict()

    def add(self, one: CommittedBlock) -> None:
        self._blocks[one.block.number] = one
        while len(self._blocks) > self._most:
            self._blocks.popitem(last=False)

    def get(self, number: int) -> CommittedBlock | None:
        return self._blocks.get(number)


class Blocks:
    """Committed blocks by number: from memory, else from the own peer."""

    def __init__(self, channel: Channel, recent: RecentBlocks, *, channel_name: str, chaincode: str) -> None:
        self._channel = channel
        self._recent = recent
        self._channel_name = channel_name
        self._chaincode = chaincode

    async def get(self, number: int) -> CommittedBlock:
        """Raises EvaluateError, MalformedState."""
        known = self._recent.get(number)
        if known is not None:
            return known
        return committed(await self._channel.block_by_number(number), self._channel_name, self._chaincode)


class ProjectionFollower:
    """Blocks -> projection."""

    def __init__(
        self,
        channel: Channel,
        projection: Projection,
        recent: RecentBlocks,
        metrics: LedgerMetrics,
        *,
        channel_name: str,
        chaincode: str,
    ) -> None:
        self._channel = channel
        self._projection = projection
        self._recent = recent
        self._metrics = metrics
        self._channel_name = channel_name
        self._chaincode = chaincode

    async def run(self) -> None:
        """Follow until cancelled. Raises MeshError INTEGRITY when the blocks do not make one chain."""
        failures = 0
        while True:
            checkpoint = await self._projection.checkpoint(PROJECTION)
            await self._projection.advanced(checkpoint.next_block)
            # Also before the first new block: after a start on an idle channel nothing is behind.
            self._metrics.projected.set(checkpoint.next_block)
            try:
                await self._follow(checkpoint)
            except BlockEventsError as exc:
                # Not joined yet, or access was changed: the peer may say otherwise later.
                _log.warning("blocks.refused", status=exc.status, height=checkpoint.next_block)
                self._projection.refused(exc.message)
            except FabricError as exc:
                _log.warning("blocks.unreadable", error_type=type(exc).__name__)
            except MeshError as exc:
                # For example the disk is full. Lists are behind meanwhile, but commands are submitted.
                if exc.code != code_pb2.CODE_UNAVAILABLE:
                    raise
                if not failures:
                    where = self._projection.next_block
                    _log.warning("lists.behind", code=code_name(exc.code), reason=exc.reason, block=where)
            moved = self._projection.next_block > checkpoint.next_block
            failures = 0 if moved else failures + 1
            await _pause(failures)

    async def _follow(self, checkpoint: Checkpoint) -> None:
        async with (
            aclosing(self._read(checkpoint)) as blocks,
            aclosing(gathered(blocks, _BLOCKS_TOGETHER)) as waiting,
        ):
            async for together in waiting:
                await self._projection.apply(together)
                self._metrics.projected.set(self._projection.next_block)

    async def _read(self, checkpoint: Checkpoint) -> AsyncGenerator[CommittedBlock]:
        async with aclosing(self._channel.blocks(checkpoint.next_block)) as blocks:
            async for block in blocks:
                check_continues(checkpoint, block.previous_hash)
                checkpoint = Checkpoint(block.number + 1, block.header_hash)
                try:
                    one = committed(block, self._channel_name, self._chaincode)
                except MalformedState as exc:
                    raise MeshError.integrity(
                        "a committed value cannot be read; run the service's version that fits the chaincode"
                    ) from exc
                self._recent.add(one)
                yield one


class PublicationFollower:
    """Projected blocks -> JetStream, one message for each transaction, in order."""

    def __init__(
        self,
        blocks: Blocks,
        projection: Projection,
        publisher: Publisher,
        metrics: LedgerMetrics,
        *,
        channel_name: str,
        traces: Traces | None = None,
    ) -> None:
        """`traces`: of transactions that this service submitted. For the others a trace begins here."""
        self._blocks = blocks
        self._projection = projection
        self._publisher = publisher
        self._metrics = metrics
        self._channel_name = channel_name
        self._traces = traces or Traces()

    async def run(self) -> None:
        """Publish until cancelled. Failures are tried again, and nothing is skipped."""
        checkpoint = saved = await self._projection.checkpoint(PUBLICATION)
        failures = 0
        with suppress(MeshError):
            # Consumers find the stream before the first event.
            await self._publisher.prepare()
        while True:
            await self._projection.wait_for(checkpoint.next_block)
            try:
                one = await self._blocks.get(checkpoint.next_block)
                await self._publish(one)
            except FabricError as exc:
                kind = type(exc).__name__
                _log.warning("events.block_missing", error_type=kind, block=checkpoint.next_block)
                failures += 1
            except MeshError as exc:
                if not failures:
                    where = checkpoint.next_block
                    _log.warning("events.lagging", code=code_name(exc.code), reason=exc.reason, block=where)
                failures += 1
            else:
                if failures:
                    _log.info("events.recovered", attempt=failures, block=checkpoint.next_block)
                failures = 0
                checkpoint = one.checkpoint
            if self._is_worth_saving(checkpoint, saved):
                # The checkpoint is saved later; after a crash before that, blocks are published again.
                with suppress(MeshError):
                    await self._projection.save_checkpoint(PUBLICATION, checkpoint)
                    saved = checkpoint
            self._measure(checkpoint)
            if failures:
                await _pause(failures)

    def _is_worth_saving(self, checkpoint: Checkpoint, saved: Checkpoint) -> bool:
        """Whether to save the checkpoint: now and then, and when everything is published."""
        behind = checkpoint.next_block - saved.next_block
        caught_up = checkpoint.next_block >= self._projection.next_block
        return behind >= _BLOCKS_TOGETHER or (behind > 0 and caught_up)

    async def _publish(self, one: CommittedBlock) -> None:
        for transaction in one.transactions:
            parent = self._traces.take(transaction.tx_id)
            with tracing.span("publish", parent=parent, kind=SpanKind.PRODUCER) as span:
                span.set(tx_id=transaction.tx_id, block=one.block.number)
                await self._publisher.publish(
                    event_of(self._channel_name, transaction),
                    message_id=transaction.tx_id,
                    event_type=TRANSACTION_COMMITTED,
                    at_ms=transaction.at_ms,
                )

    def _measure(self, checkpoint: Checkpoint) -> None:
        self._metrics.published.set(checkpoint.next_block)
        self._metrics.publication_lag.set(self._projection.next_block - checkpoint.next_block)


async def _pause(failures: int) -> None:
    ceiling = min(_LONGEST_DELAY_SECONDS, 0.2 * 2 ** min(failures, 8))
    await asyncio.sleep(ceiling * random.uniform(0.5, 1.0))  # noqa: S311 — jitter, not a secret
