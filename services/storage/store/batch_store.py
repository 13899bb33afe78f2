"""Stores a batch with as many copies as the policy wants, each with a signed receipt, or not at all."""

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

    When storing fails here, the other members still hold their copies for 15 minutes: their receipts can be
    used for that long, and they do not trust this member to say that nobody will. So while the own disk is
    full or the own node unavailable, a batch is pinned here first and pushed only after that.
    """

    def __init__(
        self,
        own_msp: str,
        leases: Leases,
        pins: Pins,
        replicas: Replicas,
        receipt_signer: receipts.Receipts,
        now_ms: Callable[[], int],
    ) -> None:
        self._own_msp = own_msp
        self._leases = leases
        self._pins = pins
        self._replicas = replicas
        self._receipt_signer = receipt_signer
        self._now_ms = now_ms
        # Whether the last batch could not be pinned here.
        self._failing = False

    def lease(
        self,
        packed: Packed,
        contents: tuple[Content, ...],
        chunks: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Lease:
        """The lease of a batch of this member, from now on."""
        return Lease(packed.root_cid, self._own_msp, contents, chunks or {}, self._now_ms())

    async def store(self, packed: Packed, lease: Lease, place: Placement) -> SealedBatch:
        """Pin a CAR in the own node and at other members; gives the seal, own receipt first.

        Both happen at the same time, or one after the other while the own node or database fails.
        Every member writes its own lease before it pins, so each learns the outcome from its own ledger,
        whatever crashes in between.
        Raises MeshError UNAVAILABLE. Then nobody gets the own receipt, and the batch may be unpinned here at
        once. The other members unpin it when their receipts have expired.
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
        return receipts.seal(lease, [self._receipt_signer.sign(lease), *pushed])

    async def stand(
        self, lease: Lease, seal: SealedBatch, items: Sequence[PlainRecord], results: Sequence[SealResult]
    ) -> None:
        """Write down the results of a batch, before anybody gets them.

        Raises MeshError UNAVAILABLE, with the same effect as in `store`.
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
            # A conflict is the fault of the batch, not of the disk.
            self._failing = self._failing or err.code != code_pb2.CODE_CONFLICT
            raise
        self._failing = False

    async def _push(self, packed: Packed, lease: Lease, place: Placement) -> list[ReplicaReceipt]:
        others = placement.candidates(packed.root_cid, self._own_msp, place.signing_keys)
        return await self._replicas.push(packed, lease, place.copies, others, place.signing_keys)

    async def _abandon(self, lease: Lease) -> None:
        # If this cannot be written, the batch is unpinned when the lease has ended.
        with suppress(MeshError):
            await self._leases.abandon(lease)
