"""Holds batches of other members: imports them and signs a receipt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from cbmdhi.protocol import cid as cids
from services.runtime.byte_budget import ByteBudget
from services.runtime.concurrency import by_size
from services.runtime.errors import MeshError
from services.storage.domain import batch
from services.storage.domain.lease import Content, Lease, Quota
from services.storage.metrics import StorageMetrics
from services.storage.store.block_cache import BlockCache
from services.storage.store.pins import Pins
from services.storage.store.receipts import Receipts


class ReplicaHost:
    """Holds batches on behalf of other members, until the own ledger tells their outcome.

    quota  of each member, so that none fills the disk with batches that never come to the channel
    """

    def __init__(
        self,
        pins: Pins,
        block_cache: BlockCache,
        budget: ByteBudget,
        receipts: Receipts,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
        *,
        quota: Quota,
    ) -> None:
        self._pins = pins
        self._block_cache = block_cache
        self._budget = budget
        self._receipts = receipts
        self._metrics = metrics
        self._now_ms = now_ms
        self._quota = quota

    async def replicate(
        self, msp: str, car: bytes, root_cid: str, contents: Sequence[Content]
    ) -> ReplicaReceipt:
        """Hold a member's CAR and sign a receipt for it. Idempotent.

        Raises MeshError TOO_LARGE, INVALID, INTEGRITY, CONFLICT, RESOURCE_EXHAUSTED, UNAVAILABLE.
        """
        if len(car) > batch.MAX_CAR_BYTES:
            raise MeshError.too_large(
                f"a CAR holds at most {batch.MAX_BATCH_BYTES // batch.MIB} MiB of content; send several",
                "car",
            )
        with self._budget.taken(2 * len(car)):
            try:
                checked = await by_size(len(car), batch.check_car, car, root_cid, contents)
            except cids.HashMismatch as exc:
                raise self._metrics.differed(
                    "member-block", "a block of the CAR does not match its CID", "car"
                ) from exc
            lease = Lease(root_cid, msp, tuple(contents), checked.chunks, self._now_ms())
            try:
                await self._pins.lease(checked.packed, lease, self._quota)
            except MeshError as err:
                if err.code == code_pb2.CODE_RESOURCE_EXHAUSTED:
                    self._metrics.over_quota.inc()
                raise
            self._block_cache.put_all(checked.blocks)
        self._metrics.replicated.inc()
        return self._receipts.sign(lease)
