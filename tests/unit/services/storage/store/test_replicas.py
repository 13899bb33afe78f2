"""Pushing a batch to a member that gives no receipt."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from cbmdhi.protocol import signature
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from services.storage.domain import batch
from services.storage.domain.batch import Packed
from services.storage.domain.lease import Lease
from services.storage.metrics import StorageMetrics
from services.storage.store.receipts import Receipts
from services.storage.store.replicas import Replicas
from tests.support.fakes.committed_channel import LAKESIDE, MERCY

NORTHGATE = "NorthgateMSP"


class Hanging:
    """A member that takes a batch and never answers."""

    async def replicate(self, msp: str, packed: Packed, lease: Lease, seconds: float) -> ReplicaReceipt:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def test_a_member_that_hangs_has_failed_no_less_than_one_that_refuses() -> None:
    registry = CollectorRegistry()
    receipts = Receipts(MERCY, bytes(32), signature.new_private_key())
    metrics = StorageMetrics(Metrics("storage", registry))
    replicas = Replicas(Hanging(), receipts, metrics, push_seconds=0.05, spare_seconds=1)
    packed = batch.pack_blob(b"sealed")
    lease = Lease(packed.root_cid, MERCY, (), {}, 1)

    with pytest.raises(MeshError) as refused:
        await replicas.push(packed, lease, 1, [LAKESIDE], {})

    assert refused.value.code == code_pb2.CODE_UNAVAILABLE
    assert registry.get_sample_value("cbmdhi_storage_replicas_failed_total") == 1


class SomeHang:
    """Members of which some take a batch and never answer; who was asked, in order."""

    def __init__(self, *hanging: str) -> None:
        self.hanging = set(hanging)
        self.asked: list[str] = []
        self.keys = {msp: signature.new_private_key() for msp in (LAKESIDE, NORTHGATE)}
        self.signing_keys = {msp: signature.spki(key.public_key()) for msp, key in self.keys.items()}

    async def replicate(self, msp: str, packed: Packed, lease: Lease, seconds: float) -> ReplicaReceipt:
        self.asked.append(msp)
        if msp in self.hanging:
            await asyncio.Event().wait()
        return Receipts(msp, bytes(32), self.keys[msp]).sign(lease)


async def test_a_batch_goes_elsewhere_when_a_member_hangs_and_the_next_one_at_once() -> None:
    members = SomeHang(LAKESIDE)
    receipts = Receipts(MERCY, bytes(32), signature.new_private_key())
    metrics = StorageMetrics(Metrics("storage", CollectorRegistry()))
    replicas = Replicas(members, receipts, metrics, push_seconds=60, spare_seconds=0.01)
    packed = batch.pack_blob(b"sealed")
    lease = Lease(packed.root_cid, MERCY, (), {}, 1)

    async def holders() -> list[str]:
        pushed = await replicas.push(packed, lease, 1, [LAKESIDE, NORTHGATE], members.signing_keys)
        return [receipt.msp for receipt in pushed]

    assert await holders() == [NORTHGATE]
    assert members.asked == [LAKESIDE, NORTHGATE]
    assert await holders() == [NORTHGATE]
    assert members.asked == [LAKESIDE, NORTHGATE, NORTHGATE]

    # Of two that are suspected the one that is there holds it.
    members.hanging = {NORTHGATE}
    assert await holders() == [LAKESIDE]


class SomeRefuse(SomeHang):
    """Members of which some say at once that they are not there; who holds the batch, as often as it does."""

    def __init__(self, *away: str) -> None:
        super().__init__()
        self.away = set(away)
        self.holds: list[str] = []

    async def replicate(self, msp: str, packed: Packed, lease: Lease, seconds: float) -> ReplicaReceipt:
        if msp in self.away:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "no answer")
        self.holds.append(msp)
        return await super().replicate(msp, packed, lease, seconds)


async def test_while_too_few_members_answer_what_is_refused_fills_nobodys_disk() -> None:
    """What was seen: the one that was there pinned each refused batch for a quarter of an hour."""
    members = SomeRefuse(NORTHGATE)
    receipts = Receipts(MERCY, bytes(32), signature.new_private_key())
    metrics = StorageMetrics(Metrics("storage", CollectorRegistry()))
    replicas = Replicas(members, receipts, metrics, push_seconds=60, spare_seconds=60)
    packed = batch.pack_blob(b"sealed")
    lease = Lease(packed.root_cid, MERCY, (), {}, 1)

    async def holders() -> set[str]:
        pushed = await replicas.push(packed, lease, 2, [LAKESIDE, NORTHGATE], members.signing_keys)
        return {receipt.msp for receipt in pushed}

    for _ in range(5):
        with pytest.raises(MeshError):
            await holders()
    # Nobody knew it before the first.
    assert members.holds == [LAKESIDE]

    members.away.clear()
    assert await holders() == {LAKESIDE, NORTHGATE}
    assert await holders() == {LAKESIDE, NORTHGATE}
