"""Pushing a batch to a member that gives no receipt."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from cbmdhi.command.v1 import code_pb2
from cbmdhi.storage.v1.storage_pb2 import ReplicaReceipt
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from services.storage.domain import batch
from services.storage.domain.batch import Packed
from services.storage.metrics import StorageMetrics
from services.storage.replicas import Replicas
from tests.unit.storage.channel import LAKESIDE


class Hanging:
    """A member that takes a batch and never answers."""

    async def replicate(self, msp: str, packed: Packed, seconds: float) -> ReplicaReceipt:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def test_a_member_that_hangs_has_failed_no_less_than_one_that_refuses() -> None:
    registry = CollectorRegistry()
    replicas = Replicas(Hanging(), StorageMetrics(Metrics("storage", registry)), push_seconds=0.05)
    asked: set[str] = set()

    with pytest.raises(MeshError) as refused:
        await replicas.push(batch.pack_blob(b"sealed"), 1, [LAKESIDE], {}, asked)

    assert refused.value.code == code_pb2.CODE_UNAVAILABLE
    assert asked == {LAKESIDE}
    assert registry.get_sample_value("cbmdhi_storage_replicas_failed_total") == 1
