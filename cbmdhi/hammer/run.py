"""The run: each user's stream takes its records when they are due, whatever became of the earlier ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from cbmdhi.client import Client
from cbmdhi.client.records import Prepared
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import name_of
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.hammer.plan import Load

_PATIENCE_SECONDS = 60.0


@dataclass
class Outcome:
    """What came back. Latencies are from when a record was due to its receipt, in seconds."""

    latencies: list[float] = field(default_factory=list)
    receipts: dict[str, gateway_pb2.RecordReceipt] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    generator_cpu_seconds: float = 0.0

    @property
    def committed(self) -> int:
        """Records with a receipt that says OK."""
        return len(self.receipts)


async def run(
    load: Load, authors: Sequence[Client], prepared: Sequence[Prepared], tick: Callable[[Outcome], None]
) -> Outcome:
    """Send everything; `tick` is called with each result. Raises grpc's errors: a run that breaks is none."""
    outcome = Outcome()
    due = {entry.item.submission_id: load.due_seconds(number) for number, entry in enumerate(prepared)}
    for author in authors:
        await author.connection.token()
    cpu, started = time.process_time(), time.monotonic()

    async def user(number: int) -> None:
        mine = prepared[number :: load.users]
        connection = authors[number].connection
        stub = gateway_pb2_grpc.IngestServiceStub(connection.authenticated)

        async def requests() -> AsyncIterator[gateway_pb2.IngestRequest]:
            for entry in mine:
                wait = started + due[entry.item.submission_id] - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                yield gateway_pb2.IngestRequest(items=[entry.item])

        call = stub.Ingest(
            requests(), metadata=await connection.metadata(), timeout=load.seconds + _PATIENCE_SECONDS
        )
        async for response in call:
            for result in response.results:
                _note(outcome, result, time.monotonic() - started - due[result.submission_id])
                tick(outcome)

    await asyncio.gather(*(user(number) for number in range(load.users)))
    outcome.seconds = time.monotonic() - started
    outcome.generator_cpu_seconds = time.process_time() - cpu
    return outcome


def _note(outcome: Outcome, response: gateway_pb2.IngestResult, latency: float) -> None:
    code = response.error.code if response.HasField("error") else response.receipts[0].receipt.code
    if code == code_pb2.CODE_OK:
        outcome.latencies.append(latency)
        outcome.receipts[response.submission_id] = response.receipts[0]
    else:
        outcome.refused[name_of(code)] = outcome.refused.get(name_of(code), 0) + 1
