"""The followers over a world, as the service runs them, and what the chaincode writes for them to follow."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2, ledger_pb2
from cbmdhi.protocol.state_keys import audit_key, identity_key, record_key
from services.ledger.metrics import LedgerMetrics
from services.ledger.projection.block_feed import BlockFeed
from services.ledger.projection.follower import (
    Blocks,
    ProjectionFollower,
    PublicationFollower,
    RecentBlocks,
)
from services.ledger.projection.lists import Lists
from services.ledger.projection.projection import Projection
from services.ledger.projection.schema import MIGRATIONS
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_channel import CHAINCODE, CHANNEL, MERCY, PATIENT, World


@dataclass
class Stream:
    """JetStream as a publisher sees it; down when told so."""

    down: bool = False
    published: list[tuple[str, events_pb2.TransactionCommitted]] = field(default_factory=list)

    async def prepare(self) -> None:
        if self.down:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "NATS does not answer")

    async def publish(
        self, data: bytes, *, message_id: str, event_type: str, at_ms: int, deadline_seconds: float = 5.0
    ) -> int:
        if self.down:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "NATS does not answer")
        self.published.append((message_id, events_pb2.TransactionCommitted.FromString(data)))
        return len(self.published)

    def blocks(self) -> list[int]:
        return [event.block for _, event in self.published]


class Service:
    """Both followers over one file, as the service runs them."""

    def __init__(self, world: World, stream: Stream, file: Path) -> None:
        self.world, self.stream = world, stream
        self.database = Database(file, MIGRATIONS)
        self.metrics = Metrics("ledger")
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Service":
        await self.database.__aenter__()
        self.projection = Projection(self.database)
        self.lists = Lists(self.database)
        self.recent = RecentBlocks()
        self.ledger_metrics = LedgerMetrics(self.metrics)
        self.blocks = Blocks(self.world, self.recent, **self._named())
        self.told = BlockFeed(self.blocks, self.projection, CHANNEL)
        return self

    def _named(self) -> dict[str, str]:
        return {"channel_name": CHANNEL, "chaincode": CHAINCODE}

    def project(self) -> None:
        follower = ProjectionFollower(
            self.world, self.projection, self.recent, self.ledger_metrics, **self._named()
        )
        self.tasks.append(asyncio.create_task(follower.run()))

    def publish(self) -> None:
        follower = PublicationFollower(
            self.blocks, self.projection, self.stream, self.ledger_metrics, channel_name=CHANNEL
        )
        self.tasks.append(asyncio.create_task(follower.run()))

    async def crash(self) -> None:
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        self.tasks = []

    async def __aexit__(self, *_: object) -> None:
        await self.crash()
        await self.database.__aexit__(None, None, None)


def entry(
    command_id: str, *, patient: str = PATIENT, tx_id: str = "tx", reason: str = ""
) -> dict[str, bytes]:
    document = state_pb2.AuditEntry(
        command_id=command_id, signer="s", patient=patient, code=code_pb2.CODE_OK, tx_id=tx_id, reason=reason
    )
    return {audit_key(command_id, "s"): document.SerializeToString()}


def record(
    record_id: str, version: int, *, category: str = "observations", patient: str = PATIENT
) -> dict[str, bytes]:
    document = state_pb2.RecordVersion(
        record_id=record_id,
        version=version,
        patient=patient,
        category=category,
        writer_msp=MERCY,
        content=state_pb2.StoredContent(
            writer_key=state_pb2.WriterKey(key_id=f"key {version}", epoch=version)
        ),
    )
    return {record_key(record_id, version): document.SerializeToString()}


def identity(address: str, status: int = state_pb2.IDENTITY_STATUS_ACTIVE) -> dict[str, bytes]:
    document = state_pb2.IdentityDocument(address=address, home_msp=MERCY, role=1, status=status)  # type: ignore[arg-type]
    return {identity_key(address): document.SerializeToString()}


async def receipt_of(lists: Lists, command_id: str, signer: str) -> ledger_pb2.Receipt | None:
    """What the lists know of one command."""
    return (await lists.receipts([(command_id, signer)])).get((command_id, signer))
