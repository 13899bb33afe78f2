"""What the own Kubo node pins, and on whose behalf: a root stays until the last who wants it lets go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.storage.domain import batch
from services.storage.locks import KeyedLocks
from services.storage.roots import Roots


class BlockStore(Protocol):
    """The member's Kubo node (`kubo.Kubo`), or a fake."""

    async def import_car(self, root_cid: str, car: bytes) -> None:
        """Store and pin. Raises MeshError."""
        ...

    async def unpin(self, root_cid: str) -> None:
        """Let go. Raises MeshError."""
        ...

    async def get(self, cid: str) -> bytes | None:
        """A block held here, checked against its CID. Raises MeshError INTEGRITY, UNAVAILABLE."""
        ...


class Pins:
    """Pins and unpins roots in the own Kubo node; all of it is idempotent and may be tried again."""

    def __init__(self, roots: Roots, store: BlockStore, locks: KeyedLocks | None = None) -> None:
        self._roots = roots
        self._store = store
        self._locks = locks or KeyedLocks()

    async def pin(self, packed: batch.Packed, msp: str) -> None:
        """Import a CAR that was checked and pin its root on behalf of a member. Raises MeshError."""
        async with self._locks.hold(packed.root_cid):
            await self._roots.hold(packed.root_cid, msp)
            await self._store.import_car(packed.root_cid, packed.car)

    async def unpin(self, root: str, msp: str, keep: Sequence[str] = ()) -> None:
        """Let go of a root that was pinned on behalf of a member, but for what is kept of it.

        Raises MeshError INVALID (a CID to keep is not below the root), UNAVAILABLE.
        """
        if not await self._roots.holds(root, msp):
            return
        if keep:
            below = await self.check_below(root, keep)
            survivors = tuple(dict.fromkeys(keep))
            if len(survivors) == len(below):
                return
            await self.pin(batch.pack_survivors(survivors), msp)
        async with self._locks.hold(root):
            if not await self._roots.held_for_others(root, msp):
                await self._store.unpin(root)
            await self._roots.forget(root, msp)

    async def check_below(self, root: str, keep: Sequence[str]) -> tuple[str, ...]:
        """The blocks that a pinned batch's root links to, among which those to keep are.

        Raises MeshError INVALID, UNAVAILABLE.
        """
        block = await self._store.get(root)
        if block is None:
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE, "the Kubo node does not give the batch's root; see its log"
            )
        try:
            below = batch.links_of(root, block)
        except batch.NotABatch as exc:
            raise MeshError(code_pb2.CODE_INVALID, "that CID is not the root of a batch") from exc
        if not set(keep) <= set(below):
            raise MeshError(
                code_pb2.CODE_INVALID, "a CID to keep is not one of that batch; name CIDs of its records"
            )
        return below
