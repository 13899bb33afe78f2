"""What this member holds for the others: imports their batches, signs receipts, lets go when asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import replica
from cbmdhi.storage.v1.storage_pb2 import ReplicaReceipt
from services.runtime.errors import MeshError
from services.storage.budget import ByteBudget
from services.storage.domain import batch
from services.storage.metrics import StorageMetrics
from services.storage.pins import Pins
from services.storage.recent import RecentBlocks
from services.storage.threads import by_size


class Hosting:
    """Holds batches on behalf of other members; each can let go of its own alone."""

    def __init__(
        self,
        own_msp: str,
        signing_key: ec.EllipticCurvePrivateKey,
        pins: Pins,
        recent: RecentBlocks,
        budget: ByteBudget,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._own_msp = own_msp
        self._signing_key = signing_key
        self._pins = pins
        self._recent = recent
        self._budget = budget
        self._metrics = metrics
        self._now_ms = now_ms

    async def replicate(self, msp: str, car: bytes, root_cid: str) -> ReplicaReceipt:
        """Hold a member's CAR and say so, signed. Idempotent.

        Raises MeshError TOO_LARGE, INVALID, INTEGRITY, RESOURCE_EXHAUSTED, UNAVAILABLE.
        """
        if len(car) > batch.MAX_CAR_BYTES:
            raise MeshError(
                code_pb2.CODE_TOO_LARGE,
                f"a CAR holds at most {batch.MAX_BATCH_BYTES // batch.MIB} MiB of content; send several",
                "car",
            )
        with self._budget.take(2 * len(car)):
            try:
                checked = await by_size(len(car), batch.check_car, car, root_cid)
            except cids.HashMismatch as exc:
                self._metrics.integrity_failures.labels("member-block").inc()
                raise MeshError(
                    code_pb2.CODE_INTEGRITY, "a block of the CAR does not match its CID", "car"
                ) from exc
            except batch.NotABatch as exc:
                raise MeshError(code_pb2.CODE_INVALID, f"the CAR cannot be held: {exc}", "car") from exc
            await self._pins.pin(checked.packed, msp)
            self._recent.put_all(checked.blocks)
        self._metrics.replicated.inc()
        return replica.sign_receipt(self._signing_key, root_cid, self._own_msp, self._now_ms())

    async def unpin(self, msp: str, kept_of: Mapping[str, Sequence[str]]) -> None:
        """Let go of roots that this member had replicated, but for what is kept of each. Idempotent.

        Raises MeshError INVALID, UNAVAILABLE.
        """
        await self._pins.unpin(msp, kept_of)
