"""What the own Kubo node pins, and on whose behalf: a root stays until the last who wants it lets go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.storage.domain import batch
from services.storage.locks import KeyedLocks
from services.storage.recent import RecentBlocks
from services.storage.roots import Roots


class BlockStore(Protocol):
    """The member's Kubo node (`kubo.Kubo`), or a fake."""

    async def import_car(self, root_cid: str, car: bytes) -> None:
        """Store and pin. Raises MeshError."""
        ...

    async def pin_roots(self, roots: Sequence[batch.Root]) -> None:
        """Store roots of blocks that are here, and pin them. Raises MeshError."""
        ...

    async def unpin(self, root_cids: Sequence[str]) -> None:
        """Let go. Raises MeshError."""
        ...

    async def get(self, cid: str) -> bytes | None:
        """A block held here, checked against its CID. Raises MeshError INTEGRITY, UNAVAILABLE."""
        ...


class Pins:
    """Pins and unpins roots in the own Kubo node; all of it is idempotent and may be tried again."""

    def __init__(
        self, roots: Roots, store: BlockStore, recent: RecentBlocks, locks: KeyedLocks | None = None
    ) -> None:
        self._roots = roots
        self._store = store
        self._recent = recent
        self._locks = locks or KeyedLocks()

    async def pin(self, packed: batch.Packed, msp: str) -> None:
        """Import a CAR that was checked and pin its root on behalf of a member. Raises MeshError."""
        async with self._locks.hold(packed.root_cid):
            await self._roots.hold([packed.root_cid], msp)
            await self._store.import_car(packed.root_cid, packed.car)
        if packed.root_block:
            # What is refused of a batch is let go moments after it was sealed.
            self._recent.put(packed.root_cid, packed.root_block)

    async def unpin(self, msp: str, kept_of: Mapping[str, Sequence[str]]) -> None:
        """Let go of roots that were pinned on behalf of a member, but for what is kept of each.

        Raises MeshError INVALID (a CID to keep is not below its root), UNAVAILABLE.
        """
        gone: list[str] = []
        made: dict[str, batch.Root] = {}
        for root in await self._roots.held(kept_of, msp):
            if kept_of[root]:
                kept = await self.survivors(root, kept_of[root])
                if kept is None:
                    continue
                made[kept.cid] = kept
            gone.append(root)
        if made:
            async with self._locks.hold(*made):
                await self._roots.hold(made, msp)
                await self._store.pin_roots(list(made.values()))
        if gone:
            async with self._locks.hold(*gone):
                wanted = await self._roots.held_for_others(gone, msp)
                await self._store.unpin([root for root in gone if root not in wanted])
                await self._roots.forget(gone, msp)

    async def survivors(self, root: str, keep: Sequence[str]) -> batch.Root | None:
        """A new root over what is kept of a pinned batch; None when that is all of it.

        Raises MeshError INVALID (a CID to keep is not below the root), UNAVAILABLE.
        """
        block = self._recent.get(root) or await self._store.get(root)
        if block is None:
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE, "the Kubo node does not give the batch's root; see its log"
            )
        try:
            return batch.survivors(root, block, keep)
        except batch.NotABatch as exc:
            raise MeshError(code_pb2.CODE_INVALID, "that CID is not the root of a batch") from exc
        except ValueError as exc:
            raise MeshError(
                code_pb2.CODE_INVALID, "a CID to keep is not one of that batch; name CIDs of its records"
            ) from exc
