"""Where a group that passed every check waits for its batch: records, accesses and documents apart."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from services.gateway.pipeline.submission import Kind, Receipts, Submission
from services.runtime.batching import MicroBatcher, Waiting
from services.runtime.telemetry import Metrics

# The contents of as many as fit into 16 MiB, and what surrounds them.
_BATCH_BYTES = 17 * 1024 * 1024
# Storage seals no more at once: a group of many records counts for as much of a batch as they do.
_BATCH_RECORDS = 1_000
# Commands.
_QUEUE = 100_000
# What a client's streams may have under way, and some more.
_QUEUE_OF_ONE = 25_000
# Groups that change documents: half of what the ledger puts into one transaction, of all clients in turn.
_DOCUMENTS_IN_FLIGHT = 200

Process = Callable[[list[Submission]], Awaitable[list[Receipts | Exception]]]


@dataclass(frozen=True)
class QueueLimits:
    """Of batches; see `GatewayConfig`."""

    batch_submissions: int
    linger_seconds: float
    batches_in_flight: int
    spacing_seconds: float = 0.0
    most_spacing_seconds: float = 0.0


class BatchQueues:
    """One queue for each kind of submission. Callers take turns in it, and each caller's patients."""

    def __init__(self, process: Process, limits: QueueLimits, registry: Metrics) -> None:
        self._process = process
        self._registry = registry
        # A document may take its time: each is submitted in a batch of its own, and does not stop the others.
        single = replace(
            limits, batch_submissions=1, batches_in_flight=_DOCUMENTS_IN_FLIGHT, spacing_seconds=0.0
        )
        self._of: dict[Kind, MicroBatcher[Submission, Receipts]] = {
            "records": self._queue("seal", limits),
            "access": self._queue("access", limits),
            "documents": self._queue("document", single),
        }

    def put(self, one: Submission) -> Waiting[Submission, Receipts]:
        """Its item in the queue, which is the future of its receipts. Raises MeshError."""
        return self._of[one.kind].enqueue(one, one.span, one.ends_at)

    async def close(self) -> None:
        """Take nothing more; what waits is still processed."""
        await asyncio.gather(*(queue.close() for queue in self._of.values()))

    def _queue(self, name: str, limits: QueueLimits) -> MicroBatcher[Submission, Receipts]:
        return MicroBatcher(
            self._process,
            max_count=limits.batch_submissions,
            max_bytes=_BATCH_BYTES,
            linger_seconds=limits.linger_seconds,
            spacing_seconds=limits.spacing_seconds,
            most_spacing_seconds=limits.most_spacing_seconds,
            max_queue=_QUEUE,
            max_per_caller=_QUEUE_OF_ONE,
            key_of=lambda one: (one.caller, one.patient),
            # A group has as many turns as it has commands.
            weight_of=lambda one: len(one.commands),
            size_of=lambda one: max(one.size, len(one.matched) * -(-_BATCH_BYTES // _BATCH_RECORDS)),
            max_in_flight=limits.batches_in_flight,
            metrics=self._registry,
            name=name,
        )
