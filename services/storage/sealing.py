"""Seal and Discard: contents in clear become one stored and replicated batch of envelopes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeVar

from cbmdhi.protocol.envelope import SealedRecord
from cbmdhi.storage.v1.storage_pb2 import ReplicaReceipt
from services.runtime.errors import MeshError, code_name
from services.storage.budget import ByteBudget
from services.storage.domain import batch, placement
from services.storage.domain.batch import Item, Refusal
from services.storage.domain.keys import Patient, holders
from services.storage.identities import Identities
from services.storage.keeper import Keeper, Placement
from services.storage.ledger import Consortium
from services.storage.metrics import StorageMetrics
from services.storage.recent import RecentBlocks
from services.storage.threads import by_size
from services.storage.writer_keys import Chosen, WriterKeys

T = TypeVar("T")

_THREAD_FROM_BYTES = 64 * 1024
_PORTION_ITEMS = 64


class Register(Protocol):
    """The channel's members (`ledger.Ledger`), or a fake."""

    async def consortium(self) -> Consortium:
        """Members and policy. Raises MeshError."""
        ...


@dataclass(frozen=True, slots=True)
class SealedItem:
    """An item that was sealed, and whose private data collections get its sealed writer key still.

    Every item under a key that is not on the channel names its holders, not the first alone: the gateway may
    drop that one's group, and the ledger may carry the others in another transaction, with a transient map
    of its own. Within a transaction the ledger sends each sealed key once.
    """

    record: SealedRecord
    writer_key: Chosen
    key_holders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SealedBatch:
    """What became of each item, in order; root, holders and receipts are empty when none was sealed."""

    results: tuple[SealedItem | Refusal, ...]
    root_cid: str = ""
    holders: tuple[str, ...] = ()
    receipts: tuple[ReplicaReceipt, ...] = ()


class Sealing:
    """Seals batches and discards what was sealed and then refused."""

    def __init__(
        self,
        own_msp: str,
        register: Register,
        identities: Identities,
        writer_keys: WriterKeys,
        keeper: Keeper,
        recent: RecentBlocks,
        budget: ByteBudget,
        metrics: StorageMetrics,
    ) -> None:
        self._own_msp = own_msp
        self._register = register
        self._identities = identities
        self._writer_keys = writer_keys
        self._keeper = keeper
        self._recent = recent
        self._budget = budget
        self._metrics = metrics

    async def seal(self, items: Sequence[Item]) -> SealedBatch:
        """Seal a batch; it stands with all its copies or not at all. A bad item is refused alone.

        Raises MeshError INVALID, TOO_LARGE, RESOURCE_EXHAUSTED, UNAVAILABLE.
        """
        problem = batch.check_batch(items)
        if problem is not None:
            raise MeshError(problem.code, problem.reason)
        started = perf_counter()
        # In clear, in envelopes and in the CAR.
        with self._budget.take(3 * sum(len(item.content) for item in items)):
            sealed = await self._seal(items)
        self._metrics.seal_duration.observe(perf_counter() - started)
        return sealed

    async def discard(self, root_cid: str, keep_cids: Sequence[str]) -> None:
        """Let go of a batch here and at the replicas, but for some records. Idempotent. Raises MeshError."""
        await self._keeper.release(root_cid, keep_cids)

    async def _seal(self, items: Sequence[Item]) -> SealedBatch:
        consortium = await self._register.consortium()
        refusals = await _spread(items, batch.check_item, lambda item: len(item.content))
        wanted = {item.patient for item, bad in zip(items, refusals, strict=True) if bad is None}
        patients = await self._identities.patients(wanted)
        keys = await self._writer_keys.choose(p for p in patients.values() if isinstance(p, Patient))

        def seal_one(numbered: tuple[int, Item]) -> SealedItem | Refusal:
            index, item = numbered
            refusal = refusals[index]
            if refusal is not None:
                return refusal
            patient = patients[item.patient]
            if isinstance(patient, Refusal):
                return patient
            key = keys[item.patient]
            to = () if key.on_channel else holders(self._own_msp, patient.custodians)
            return SealedItem(batch.seal_item(item, key.key), key, to)

        results = await _spread(list(enumerate(items)), seal_one, lambda numbered: len(numbered[1].content))
        for result in results:
            if isinstance(result, Refusal):
                self._metrics.refused.labels(code_name(result.code)).inc()
        return await self._store(results, consortium)

    async def _store(self, results: Sequence[SealedItem | Refusal], consortium: Consortium) -> SealedBatch:
        records = [result.record for result in results if isinstance(result, SealedItem)]
        if not records:
            return SealedBatch(tuple(results))
        packed = await by_size(
            sum(record.stored_bytes for record in records), batch.pack, batch.blocks_of(records)
        )
        chunks = {
            record.cid: [name for name, _ in record.blocks[1:]]
            for record in records
            if len(record.blocks) > 1
        }
        place = Placement(placement.copies_elsewhere(consortium.min_replicas), consortium.signing_keys)
        stored = await self._keeper.store(packed, place, chunks)
        self._metrics.sealed.inc(len(records))
        for record in records:
            self._recent.put(*record.blocks[0])
        return SealedBatch(tuple(results), packed.root_cid, stored.holders, stored.receipts)


Q = TypeVar("Q")


async def _spread(items: Sequence[Q], work: Callable[[Q], T], size_of: Callable[[Q], int]) -> list[T]:
    """`work` on each item, in order: the large ones in threads, the small ones in portions between which
    the loop gets its turn."""
    waiting = {
        index: asyncio.create_task(asyncio.to_thread(work, item))
        for index, item in enumerate(items)
        if size_of(item) > _THREAD_FROM_BYTES
    }
    results: dict[int, T] = {}
    try:
        for portion in _portions(
            [index for index in range(len(items)) if index not in waiting], items, size_of
        ):
            for index in portion:
                results[index] = work(items[index])
            await asyncio.sleep(0)
        for index, task in waiting.items():
            results[index] = await task
    finally:
        for task in waiting.values():
            task.cancel()
    return [results[index] for index in range(len(items))]


def _portions(indices: Sequence[int], items: Sequence[Q], size_of: Callable[[Q], int]) -> Iterator[list[int]]:
    portion: list[int] = []
    size = 0
    for index in indices:
        portion.append(index)
        size += size_of(items[index])
        if size > _THREAD_FROM_BYTES or len(portion) == _PORTION_ITEMS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
