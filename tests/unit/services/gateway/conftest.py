"""A pipeline over a ledger and a storage in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.config import MIB
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.authenticator import Authenticator
from services.gateway.pipeline.batch_processor import BatchProcessor
from services.gateway.pipeline.pipeline import Limits, Pipeline
from services.gateway.pipeline.resubmissions import Replays
from services.runtime.errors import code_name
from services.runtime.telemetry import Metrics
from tests.support.revoking import nobody
from tests.unit.services.gateway.mesh import FakeLedger, FakeStorage
from tests.unit.services.gateway.people import CHANNEL, Person, Put, checker


@dataclass
class World:
    """A member with an engine and a patient."""

    ledger: FakeLedger
    storage: FakeStorage
    pipeline: Pipeline
    identities: IdentityCache
    metrics: GatewayMetrics
    engine: Person
    patient: Person

    async def send(self, one: Put) -> list[RecordReceipt]:
        return await self.pipeline.start(one.group, one.contents, 1_000)

    async def code_of(self, one: Put) -> str:
        return code_name((await self.send(one))[0].receipt.code)


_LIMITS = Limits(batch_submissions=200, linger_seconds=0.01, batches_in_flight=8, in_flight_bytes=256 * MIB)


def build(
    ledger: FakeLedger, storage: FakeStorage, registry: Metrics | None = None, **limits: float
) -> tuple[Pipeline, IdentityCache]:
    metrics = registry or Metrics("gateway")
    own = GatewayMetrics(metrics)
    identities = IdentityCache(ledger, nobody)
    pipeline = Pipeline(
        channel=CHANNEL,
        members=frozenset({"MercyMSP", "LakesideMSP"}),
        authenticator=Authenticator(identities, CHANNEL),
        replays=Replays(ledger),
        checker=checker(),
        batches=BatchProcessor(ledger, storage, own),
        metrics=own,
        registry=metrics,
        limits=replace(_LIMITS, **limits),  # type: ignore[arg-type]
    )
    return pipeline, identities


@pytest.fixture
async def world() -> AsyncIterator[World]:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    engine, patient = Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(engine, patient)
    pipeline, identities = build(ledger, storage)
    async with pipeline:
        yield World(
            ledger,
            storage,
            pipeline,
            identities,
            GatewayMetrics(Metrics("gateway")),
            engine,
            patient,
        )
        ledger.hold.set()
