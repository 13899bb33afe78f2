"""Seal: contents in clear become one stored and replicated batch of envelopes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import SealedBatch, SealedKey, StoredContent, WriterKey
from cbmdhi.protocol import replica
from cbmdhi.protocol.envelope import SealedRecord
from cbmdhi.protocol.state_keys import sealed_writer_key_name
from cbmdhi.storage.v1.storage_pb2 import SealResult
from services.runtime.byte_budget import ByteBudget
from services.runtime.concurrency import by_size
from services.runtime.errors import MeshError, code_name
from services.storage.channel.identity_cache import IdentityCache
from services.storage.channel.ledger import Consortium, Ledger
from services.storage.domain import batch, placement
from services.storage.domain.batch import PlainRecord
from services.storage.domain.keys import Patient, holders
from services.storage.domain.lease import Content
from services.storage.metrics import StorageMetrics
from services.storage.sealing.writer_keys import ChosenWriterKey, WriterKeys
from services.storage.store.batch_store import BatchStore, Placement
from services.storage.store.block_cache import BlockCache
from services.storage.store.leases import Leases

T = TypeVar("T")

_THREAD_FROM_BYTES = 64 * 1024
_PORTION_ITEMS = 64


@dataclass(frozen=True, slots=True)
class RecordEnvelope:
    """The envelope of a record, its writer key, and who must get that key (`key_holders`).

    `key_holders` is empty once the channel has the key. Until then every item under the key names the
    holders, not only the first: the gateway may drop the group of the first item, and the ledger may submit
    the others in another transaction with its own transient map. Within one transaction the ledger sends
    each sealed key once.
    """

    record: SealedRecord
    writer_key: ChosenWriterKey
    key_holders: tuple[str, ...]

    @property
    def named_key(self) -> WriterKey:
        """The writer key, as the channel names it."""
        ref = self.writer_key.key.ref
        return WriterKey(key_id=ref.key_id, epoch=ref.epoch, sealed_key_sha256=ref.sealed_key_sha256)

    def content(self, item: PlainRecord) -> Content:
        """The entry of this record in the lease and in the seal."""
        stated = replica.stated(self.record.stored_bytes, self.named_key)
        return Content(self.record.cid, item.command_id, item.signer, stated)

    def result(self, seal: SealedBatch) -> SealResult:
        """The answer to the gateway; the same for a command that is sealed again."""
        key = self.writer_key.key
        return SealResult(
            code=code_pb2.CODE_OK,
            stored=StoredContent(
                cid=self.record.cid,
                stored_bytes=self.record.stored_bytes,
                writer_key=self.named_key,
                replicas=[receipt.msp for receipt in seal.receipts],
                root_sha256=seal.root_sha256,
            ),
            sealed_keys=[
                # The first holder is the writer itself.
                SealedKey(
                    msp=msp,
                    key=sealed_writer_key_name(self.key_holders[0], key.ref.key_id),
                    sealed=key.sealed,
                )
                for msp in self.key_holders
            ],
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """The result of each item, in order, and the seals that the results name.

    The seals are that of this batch, if anything was sealed now, and those of earlier batches in which the
    same commands were sealed.
    """

    results: tuple[SealResult, ...]
    seals: tuple[SealedBatch, ...] = ()


class Sealer:
    """Seals batches. A command whose outcome is open gets the same result when it is sealed again."""

    def __init__(
        self,
        own_msp: str,
        register: Ledger,
        identities: IdentityCache,
        writer_keys: WriterKeys,
        batch_store: BatchStore,
        leases: Leases,
        block_cache: BlockCache,
        budget: ByteBudget,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._own_msp = own_msp
        self._register = register
        self._identities = identities
        self._writer_keys = writer_keys
        self._batch_store = batch_store
        self._leases = leases
        self._block_cache = block_cache
        self._budget = budget
        self._metrics = metrics
        self._now_ms = now_ms

    async def seal(self, items: Sequence[PlainRecord]) -> Sealed:
        """Seal and store a batch: with all its copies, or not at all. A bad item is refused by itself.

        Raises MeshError INVALID, TOO_LARGE, RESOURCE_EXHAUSTED, UNAVAILABLE.
        """
        batch.check_batch(items)
        started = perf_counter()
        # The content is in memory three times: in clear, in envelopes and in the CAR.
        with self._budget.taken(3 * sum(len(item.content) for item in items)):
            sealed = await self._seal(items)
        self._metrics.seal_duration.observe(perf_counter() - started)
        return sealed

    async def _seal(self, items: Sequence[PlainRecord]) -> Sealed:
        revoked = await self._identities.revoked({item.signer for item in items})
        refused = {place: revoked[item.signer] for place, item in enumerate(items) if item.signer in revoked}
        # Receipts outlive their command, so an older lease cannot belong to a live command.
        since_ms = self._now_ms() - replica.RECEIPT_LIFETIME_MS
        sealed = await self._leases.sealed(items, self._own_msp, since_ms)
        known = {place: reused for place, reused in sealed.items() if place not in refused}
        fresh = [place for place in range(len(items)) if place not in known and place not in refused]
        made = await self._seal_fresh([items[place] for place in fresh]) if fresh else Sealed(())
        results = dict(zip(fresh, made.results, strict=True))
        results |= {place: reused.result for place, reused in known.items()}
        results |= {place: self._refused(why) for place, why in refused.items()}
        seals = {seal.root_sha256: seal for seal in made.seals}
        seals |= {reused.seal.root_sha256: reused.seal for reused in known.values()}
        self._metrics.reused.inc(len(known))
        return Sealed(tuple(results[place] for place in range(len(items))), tuple(seals.values()))

    async def _seal_fresh(self, items: Sequence[PlainRecord]) -> Sealed:
        consortium = await self._register.consortium()
        refusals = await _spread(items, batch.check_item, lambda item: len(item.content))
        wanted = {item.patient for item, bad in zip(items, refusals, strict=True) if bad is None}
        patients = await self._identities.patients(wanted)
        keys = await self._writer_keys.choose(p for p in patients.values() if isinstance(p, Patient))

        def seal_one(numbered: tuple[int, PlainRecord]) -> RecordEnvelope | MeshError:
            index, item = numbered
            refusal = refusals[index]
            if refusal is not None:
                return refusal
            patient = patients[item.patient]
            if isinstance(patient, MeshError):
                return patient
            key = keys[item.patient]
            to = () if key.on_channel else holders(self._own_msp, patient.custodians)
            return RecordEnvelope(batch.seal_item(item, key.key), key, to)

        results = await _spread(list(enumerate(items)), seal_one, lambda numbered: len(numbered[1].content))
        sealed = {place: one for place, one in enumerate(results) if isinstance(one, RecordEnvelope)}
        stored = await self._store([items[place] for place in sealed], [*sealed.values()], consortium)
        answers = iter(stored.results)
        return Sealed(
            tuple(self._refused(one) if isinstance(one, MeshError) else next(answers) for one in results),
            stored.seals,
        )

    def _refused(self, one: MeshError) -> SealResult:
        self._metrics.refused.labels(code_name(one.code)).inc()
        return SealResult(code=one.code, reason=one.reason)  # type: ignore[arg-type]

    async def _store(
        self, items: Sequence[PlainRecord], sealed: Sequence[RecordEnvelope], consortium: Consortium
    ) -> Sealed:
        if not items:
            return Sealed(())
        records = [one.record for one in sealed]
        packed = await by_size(
            sum(record.stored_bytes for record in records), batch.pack, batch.blocks_of(records)
        )
        chunks = {
            record.cid: tuple(name for name, _ in record.blocks[1:])
            for record in records
            if len(record.blocks) > 1
        }
        contents = tuple(one.content(item) for one, item in zip(sealed, items, strict=True))
        lease = self._batch_store.lease(packed, contents, chunks)
        place = Placement(placement.copies_elsewhere(consortium.min_replicas), consortium.signing_keys)
        seal = await self._batch_store.store(packed, lease, place)
        results = [one.result(seal) for one in sealed]
        await self._batch_store.stand(lease, seal, items, results)
        self._metrics.sealed.inc(len(records))
        for record in records:
            self._block_cache.put(*record.blocks[0])
        return Sealed(tuple(results), (seal,))


Q = TypeVar("Q")


async def _spread(items: Sequence[Q], work: Callable[[Q], T], size_of: Callable[[Q], int]) -> list[T]:
    """The results of `work` on each item, in order.

    Large items run in threads. Small ones run in portions, and the event loop gets its turn in between.
    """
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
