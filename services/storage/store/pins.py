"""Pins in the own Kubo node. A lease or a hold is written before anything is pinned."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from time import monotonic

from cbmdhi.protocol import cid as cids
from services.runtime.errors import MeshError
from services.runtime.keyed_locks import KeyedLocks
from services.storage.domain import batch
from services.storage.domain.lease import Lease, Quota
from services.storage.store.block_cache import BlockCache
from services.storage.store.kubo import Kubo
from services.storage.store.leases import Leases


class Pins:
    """Pins and unpins roots in the own Kubo node; every method is idempotent."""

    def __init__(
        self, leases: Leases, store: Kubo, block_cache: BlockCache, locks: KeyedLocks | None = None
    ) -> None:
        self._leases = leases
        self._store = store
        self._block_cache = block_cache
        self._locks = locks or KeyedLocks()
        self._importing = 0
        self._imported_at = monotonic()

    def idle_seconds(self) -> float:
        """Seconds since this process last imported something."""
        return 0.0 if self._importing else monotonic() - self._imported_at

    async def lease(self, packed: batch.Packed, lease: Lease, quota: Quota | None = None) -> None:
        """Import a checked CAR and pin its root until its outcome is known.

        quota  of the lease's member

        Raises MeshError CONFLICT (held for other commands), RESOURCE_EXHAUSTED (over the quota), UNAVAILABLE,
        INTEGRITY.
        """
        async with self._locks.hold(packed.root_cid):
            await self._leases.open(lease, len(packed.car), quota)
            await self._import(packed)
        if packed.root_block:
            # `release` needs the root block, often moments after the batch was sealed.
            self._block_cache.put(packed.root_cid, packed.root_block)

    async def mend(self, packed: batch.Packed, msp: str) -> None:
        """Import what ought to be here and pin it for good. Raises MeshError."""
        async with self._locks.hold(packed.root_cid):
            await self._leases.hold([(packed.root_cid, msp)])
            await self._import(packed)

    async def _import(self, packed: batch.Packed) -> None:
        self._importing += 1
        try:
            await self._store.import_car(packed.root_cid, packed.car)
        finally:
            self._importing -= 1
            self._imported_at = monotonic()

    async def release(self, settled: Mapping[Lease, AbstractSet[str]], now_ms: int) -> None:
        """Unpin roots. `settled` names the records of each that stay pinned for good, under a new root.

        A lease that was settled or renewed meanwhile is left alone. Raises MeshError UNAVAILABLE.
        """
        kept = {lease: await self._survivors(lease, stays) for lease, stays in settled.items() if stays}
        if kept:
            async with self._locks.hold(*(root.cid for root in kept.values())):
                await self._leases.hold([(root.cid, lease.msp) for lease, root in kept.items()])
                await self._store.pin_roots(list(kept.values()))
        async with self._locks.hold(*(lease.root_cid for lease in settled)):
            gone: dict[Lease, list[str]] = {}
            for lease in settled:
                if await self._leases.find(lease.root_cid, lease.msp) != lease:
                    continue
                shared = await self._leases.holds_for_others(lease.root_cid, lease.msp)
                stays = set(lease.with_chunks(settled[lease]))
                gone[lease] = [] if shared else [lease.root_cid, *(set(lease.blocks) - stays)]
            await self._store.unpin([lease.root_cid for lease, blocks in gone.items() if blocks])
            await self._leases.release(gone, now_ms)

    async def _survivors(self, lease: Lease, stays: AbstractSet[str]) -> batch.Root:
        """A new root over the records of a batch that stay."""
        block = self._block_cache.get(lease.root_cid) or await self._store.get(lease.root_cid)
        if block is None:
            raise MeshError.unavailable("the Kubo node does not give the batch's root; see its log")
        names = set(lease.with_chunks(stays))
        made = cids.batch_root([link for link in cids.links(block) if cids.from_bytes(link) in names])
        return batch.Root(cids.from_bytes(made.cid), made.block)
