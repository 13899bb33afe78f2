"""A pipeline over a ledger and a storage in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from cbmdhi.command.v1.command_pb2 import CommandGroup, Role
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.batch_processor import BatchProcessor
from services.gateway.pipeline.batch_queues import BatchQueues, QueueLimits
from services.gateway.pipeline.checks import Checks
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.resubmissions import Resubmissions
from services.gateway.pipeline.submission import Receipts, awaited
from services.runtime import tracing
from services.runtime.clock import now_ms
from services.runtime.errors import code_name
from services.runtime.side_process import SideProcess
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_neighbours import FakeLedger, FakeStorage
from tests.support.fakes.gateway_people import CHANNEL, Person, Put, checker
from tests.support.revoking import nobody


class Clock:
    """Milliseconds since 1970, ahead of this machine's."""

    ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self.ahead_ms


@dataclass
class World:
    """A member with an engine and a patient."""

    ledger: FakeLedger
    storage: FakeStorage
    pipeline: Pipeline
    identities: IdentityCache
    metrics: GatewayMetrics
    clock: Clock
    engine: Person
    patient: Person

    async def send(self, one: Put) -> list[RecordReceipt]:
        return await self.start(one.group, one.contents, 1_000)

    async def code_of(self, one: Put) -> str:
        return code_name((await self.send(one))[0].receipt.code)

    def start(self, group: CommandGroup, contents: Sequence[Content], size: int) -> asyncio.Future[Receipts]:
        return start(self.pipeline, group, contents, size)


def start(
    pipeline: Pipeline, group: CommandGroup, contents: Sequence[Content], size: int
) -> asyncio.Future[Receipts]:
    """Begin with a group: what its receipts can be waited for by."""
    one, answer = awaited(group, contents, size)
    one.span = tracing.sampled()
    pipeline.start(one)
    return answer


_LIMITS = QueueLimits(batch_submissions=200, linger_seconds=0.01, batches_in_flight=8)


def build(
    ledger: FakeLedger,
    storage: FakeStorage,
    registry: Metrics | None = None,
    clock: Callable[[], int] = now_ms,
    aside: SideProcess | None = None,
    **limits: float,
) -> tuple[Pipeline, IdentityCache]:
    registry = registry or Metrics("gateway")
    metrics = GatewayMetrics(registry)
    identities = IdentityCache(ledger, nobody)
    members = frozenset({"MercyMSP", "LakesideMSP"})
    aside = aside or SideProcess(registry, name="check")
    queues = BatchQueues(
        BatchProcessor(ledger, storage, metrics).process,
        replace(_LIMITS, **limits),  # type: ignore[arg-type]
        registry,
    )
    checks = Checks(identities, CHANNEL, members, checker(), aside, clock)
    return Pipeline(checks, Resubmissions(ledger, clock), queues, metrics), identities


@pytest.fixture
async def world() -> AsyncIterator[World]:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    engine, patient = Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(engine, patient)
    registry, clock = Metrics("gateway"), Clock()
    async with SideProcess(registry, name="check") as aside:
        pipeline, identities = build(ledger, storage, registry, clock, aside)
        metrics = GatewayMetrics(Metrics("gateway"))
        async with pipeline:
            yield World(ledger, storage, pipeline, identities, metrics, clock, engine, patient)
            ledger.hold.set()
