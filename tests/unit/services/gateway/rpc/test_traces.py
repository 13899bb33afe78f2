"""One record in a stream of many: its own span, which its batch links to."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, IngestRequest
from services.gateway.domain.session import CERTIFICATE, Session
from services.gateway.pipeline.client_quota import ClientLimits, ClientQuotas
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.rpc.ingest import Ingest
from services.runtime import tracing
from services.runtime.errors import MeshError
from tests.support.fakes.gateway_people import put
from tests.unit.services.gateway.conftest import World

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """At ratio nothing: only what asks for it is sampled."""
    exporter = InMemorySpanExporter()
    tracing.configure("gateway", processor=SimpleSpanProcessor(exporter))
    yield exporter
    tracing.configure("gateway")


async def send(world: World, *traceparents: str) -> list[int]:
    """One message with a record for each; the codes of their results."""
    items = []
    for number, traceparent in enumerate(traceparents):
        one = put(world.engine, world.patient)
        items.append(
            IngestItem(
                submission_id=f"s{number}", group=one.group, contents=one.contents, traceparent=traceparent
            )
        )

    async def requests():
        yield IngestRequest(items=items)

    quotas = ClientQuotas(ClientLimits(100, 1 << 20, 1), 1 << 20, RefusalQuotas(100, 100))
    ingest = Ingest(
        world.pipeline,
        world.metrics,
        window=100,
        quotas=quotas,
        deadline_seconds=60.0,
        stopping=asyncio.Event(),
    )
    session = Session(world.engine.address, "engine", "MercyMSP", "t", CERTIFICATE, "x", 1 << 40)
    results = []
    async for response in ingest.stream(requests(), session):
        results += response.results
    return [one.error.code or one.receipts[0].receipt.code for one in results]


async def test_the_batch_links_to_the_one_record_of_many_that_is_sampled(
    world: World, exporter: InMemorySpanExporter
) -> None:
    codes = await send(world, "", SAMPLED, "")

    assert codes == [code_pb2.CODE_OK] * 3
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"record", "seal"}
    record, batch = spans["record"], spans["seal"]
    assert record.context is not None
    assert f"{record.context.trace_id:032x}" in SAMPLED
    assert record.attributes == {"cbmdhi.code": "OK"}
    assert [link.context.span_id for link in batch.links] == [record.context.span_id]
    assert batch.attributes is not None
    assert batch.attributes["cbmdhi.count"] == 3


async def test_records_that_nobody_samples_leave_nothing(
    world: World, exporter: InMemorySpanExporter
) -> None:
    await send(world, "", "", "")

    assert exporter.get_finished_spans() == ()


async def test_a_record_that_fails_leaves_a_span_whatever_the_ratio_is(
    world: World, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: object) -> object:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")

    monkeypatch.setattr(world.storage, "seal", away)

    assert await send(world, "") == [code_pb2.CODE_UNAVAILABLE]
    told = {span.name: span.status.description for span in exporter.get_finished_spans()}
    assert told == {"seal": "UNAVAILABLE", "record": "UNAVAILABLE"}


async def test_a_call_of_its_own_is_linked_too(world: World, exporter: InMemorySpanExporter) -> None:
    with tracing.span("call", parent=tracing.extract({"traceparent": SAMPLED})) as call:
        await world.send(put(world.engine, world.patient))

    [batch] = [span for span in exporter.get_finished_spans() if span.name == "seal"]
    assert [link.context.span_id for link in batch.links] == [call.context.span_id]
