"""Pushes a batch to other members in parallel. A copy counts only with a signed receipt that verifies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog

from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from services.runtime.errors import MeshError, code_name
from services.runtime.unavailable import Unavailability
from services.storage.domain.batch import Packed
from services.storage.domain.lease import Lease
from services.storage.metrics import StorageMetrics
from services.storage.store.member_clients import MemberClients
from services.storage.store.receipts import Receipts

_log = structlog.get_logger()


class Replicas:
    """Pushes batches.

    push_seconds   deadline for one batch, with spare members
    spare_seconds  how long a member may be silent before a spare is asked as well
    """

    def __init__(
        self,
        members: MemberClients,
        receipts: Receipts,
        metrics: StorageMetrics,
        *,
        push_seconds: float,
        spare_seconds: float,
    ) -> None:
        self._members = members
        self._receipts = receipts
        self._metrics = metrics
        self._push_seconds = push_seconds
        self._spare_seconds = spare_seconds
        self._absences = Unavailability()

    async def push(
        self,
        packed: Packed,
        lease: Lease,
        copies: int,
        order: Sequence[str],
        signing_keys: Mapping[str, bytes],
    ) -> list[ReplicaReceipt]:
        """Ask members in the given order until `copies` of them hold the batch.

        A spare is asked for each member that fails or is slow. Members that failed lately are spares.
        If the copies cannot be reached without them, they are asked first: should they refuse, no other
        member has pinned a batch that it would have to hold for 15 minutes.

        signing_keys  each member's registered storage signing key (SPKI), by MSP id

        Raises MeshError UNAVAILABLE when fewer receipts came in time.
        """
        absent = [msp for msp in order if msp in self._absences]
        there = [msp for msp in order if msp not in absent]
        first = max(0, copies - len(there)) if copies <= len(order) else 0
        ends_at = asyncio.get_running_loop().time() + self._push_seconds
        push = partial(self._confirmed, packed, lease, signing_keys, ends_at)
        receipts = await push(absent, first) if first else []
        if len(receipts) == first:
            receipts += await push(there + ([] if first else absent), copies - first)
        if len(receipts) < copies:
            raise MeshError.unavailable(
                f"{len(receipts)} of {copies} needed copies at other members were confirmed, so nothing is"
                " acknowledged; send again when more members answer"
            )
        return receipts

    async def _confirmed(
        self,
        packed: Packed,
        lease: Lease,
        signing_keys: Mapping[str, bytes],
        ends_at: float,
        order: Sequence[str],
        copies: int,
    ) -> list[ReplicaReceipt]:
        """Receipts of `copies` members; fewer when no more came until `ends_at`."""
        receipts: list[ReplicaReceipt] = []
        spare = list(order)
        running: dict[asyncio.Task[ReplicaReceipt | None], str] = {}

        def ask_one_more() -> None:
            msp = spare.pop(0)
            pushing = self._push_to(msp, packed, lease, signing_keys.get(msp))
            running[asyncio.create_task(pushing)] = msp

        try:
            async with asyncio.timeout_at(ends_at):
                while len(receipts) < copies:
                    while spare and len(running) + len(receipts) < copies:
                        ask_one_more()
                    if not running:
                        break
                    done, _ = await asyncio.wait(
                        running,
                        timeout=self._spare_seconds if spare else None,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    for task in done:
                        del running[task]
                        receipts += [receipt] if (receipt := task.result()) is not None else []
                    if not done:
                        # Do not wait for members that hang; the next batch asks others first.
                        for msp in running.values():
                            self._absences.failed(msp)
                        ask_one_more()
        except TimeoutError:
            # A member that hangs counts as failed.
            self._metrics.replicas_failed.inc(len(running))
            _log.warning("replicas.late", count=len(receipts))
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)
        return receipts

    async def _push_to(
        self, msp: str, packed: Packed, lease: Lease, signing_key: bytes | None
    ) -> ReplicaReceipt | None:
        try:
            receipt = await self._members.replicate(msp, packed, lease, self._push_seconds)
            self._check(receipt, lease, msp, signing_key)
        except MeshError as err:
            self._absences.failed(msp)
            self._metrics.replicas_failed.inc()
            _log.warning("replica.failed", member=msp, code=code_name(err.code), reason=err.reason)
            return None
        self._absences.answered(msp)
        self._metrics.replicas_confirmed.inc()
        return receipt

    def _check(self, receipt: ReplicaReceipt, lease: Lease, msp: str, signing_key: bytes | None) -> None:
        try:
            self._receipts.check(receipt, lease, msp, signing_key)
        except MeshError:
            self._metrics.integrity_failures.labels("receipt").inc()
            raise
