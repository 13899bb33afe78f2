"""A batch from here on: stored with as many copies as the policy wants, each sworn to, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cbmdhi.command.v1.state_pb2 import SealedBatch
from services.storage import receipts
from services.storage.domain import placement
from services.storage.domain.batch import Packed
from services.storage.domain.lease import Content, Lease
from services.storage.leases import Leases
from services.storage.pins import Pins
from services.storage.replicas import Replicas


@dataclass(frozen=True, slots=True)
class Placement:
    """Where copies go: how many at other members, and those members' storage signing keys by MSP id."""

    copies: int
    signing_keys: Mapping[str, bytes]


class Keeper:
    """Stores this member's own batches."""

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

        The lease is written before anything is pinned, here and at each other member by itself: whatever dies
        in between, each finds out by its own ledger what became of it.
        Raises MeshError UNAVAILABLE: then the own receipt is given to nobody, so that it may go at once; what
        other members hold of it they let go when their receipts have ended.
        """
        others = placement.candidates(packed.root_cid, self._own_msp, place.signing_keys)
        stands = False
        try:
            own, pushed = await asyncio.gather(
                self._pins.lease(packed, lease),
                self._replicas.push(packed, lease, place.copies, others, place.signing_keys),
                return_exceptions=True,
            )
            if isinstance(own, BaseException):
                raise own
            if isinstance(pushed, BaseException):
                raise pushed
            stands = True
        finally:
            if not stands:
                await self._leases.abandon(lease)
        return receipts.seal(lease, [self._signing.sign(lease), *pushed])
