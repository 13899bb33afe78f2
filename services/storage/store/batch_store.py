"""A batch from here on: stored with as many copies as the policy wants, each sworn to, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt, SealedBatch
from cbmdhi.storage.v1.storage_pb2 import SealResult
from services.runtime.errors import MeshError
from services.storage.domain import placement
from services.storage.domain.batch import Packed, PlainRecord
from services.storage.domain.lease import Content, Lease
from services.storage.store import receipts
from services.storage.store.leases import Leases
from services.storage.store.pins import Pins
from services.storage.store.replicas import Replicas


@dataclass(frozen=True, slots=True)
class Placement:
    """Where copies go: how many at other members, and those members' storage signing keys by MSP id."""

    copies: int
    signing_keys: Mapping[str, bytes]


class BatchStore:
    """Stores this member's own batches.

    What other members hold of a batch that did not stand here, they hold for a quarter of an hour: for that
    long a receipt of theirs can be used, and no word of ours that it never was is worth anything to them. So
    while the own disk is full, or the own node away, nothing is pushed that has not been pinned here first.
    """

    def __init__(
        self,
        own_msp: str,
        leases: Leases,
        pins: Pins,
        replicas: Replicas,
        signing: receipts.Receipts,
        now_ms: Callable[[], int],
    ) -> None:
        self._own_msp = own_msp
        self._leases = leases
        self._pins = pins
        self._replicas = replicas
        self._signing = signing
        self._now_ms = now_ms
        # The last batch was not held here.
        self._failing = False

    def lease(
        self,
        packed: Packed,
        contents: tuple[Content, ...],
        chunks: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Lease:
        """What will be remembered of a batch of this member's own from now on."""
        return Lease(packed.root_cid, self._own_msp, contents, chunks or {}, self._now_ms())

    async def store(self, packed: Packed, lease: Lease, place: Placement) -> SealedBatch:
        """Pin a CAR in the own node and at other members, side by side; gives the seal, own receipt first.

        One after the other while the own node or the own notes fail.

        The lease is written before anything is pinned, here and at each other member by itself: whatever dies
        in between, each finds out by its own ledger what became of it.
        Raises MeshError UNAVAILABLE: then the own receipt is given to nobody, so that it may go at once; what
        other members hold of it they let go when their receipts have ended.
        """
        stands = False
        try:
            if self._failing:
                await self._pin(packed, lease)
                pushed = await self._push(packed, lease, place)
            else:
                own, pushed = await asyncio.gather(
                    self._pin(packed, lease), self._push(packed, lease, place), return_exceptions=True
                )
                if isinstance(own, BaseException):
                    raise own
                if isinstance(pushed, BaseException):
                    raise pushed
            stands = True
        finally:
            if not stands:
                await self._abandon(lease)
        return receipts.seal(lease, [self._signing.sign(lease), *pushed])

    async def stand(
        self, lease: Lease, seal: SealedBatch, items: Sequence[PlainRecord], results: Sequence[SealResult]
    ) -> None:
        """Note what a batch was sealed for, before anybody is told.

        Raises MeshError UNAVAILABLE: as `store`.
        """
        try:
            await self._leases.stand(lease, seal, items, results)
        except MeshError:
            self._failing = True
            await self._abandon(lease)
            raise

    async def _pin(self, packed: Packed, lease: Lease) -> None:
        try:
            await self._pins.lease(packed, lease)
        except MeshError as err:
            # Of a conflict the batch is to blame, not the disk.
            self._failing = self._failing or err.code != code_pb2.CODE_CONFLICT
            raise
        self._failing = False

    async def _push(self, packed: Packed, lease: Lease, place: Placement) -> list[ReplicaReceipt]:
        others = placement.candidates(packed.root_cid, self._own_msp, place.signing_keys)
        return await self._replicas.push(packed, lease, place.copies, others, place.signing_keys)

    async def _abandon(self, lease: Lease) -> None:
        # What cannot be noted now goes when the lease has ended.
        with suppress(MeshError):
            await self._leases.abandon(lease)
