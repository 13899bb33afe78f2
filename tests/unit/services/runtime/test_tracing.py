"""What is exported and what is not: by the ratio, by the caller's decision, and errors in any case."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cbmdhi.command.v1 import code_pb2
from cbmdhi.notify.v1 import notify_pb2
from services.runtime import tracing
from services.runtime.batching import MicroBatcher
from services.runtime.client import call
from services.runtime.errors import MeshError
from tests.unit.services.runtime.net import Start

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = SAMPLED[:-1] + "0"

Export = Callable[[float], InMemorySpanExporter]


@pytest.fixture
def export() -> Iterator[Export]:
    """Trace with a ratio, into memory."""

    def begin(ratio: float) -> InMemorySpanExporter:
        exporter = InMemorySpanExporter()
        tracing.configure("ledger", "mercy", ratio=ratio, processor=SimpleSpanProcessor(exporter))
        return exporter

    yield begin
    tracing.configure("ledger")


def names(exporter: InMemorySpanExporter) -> list[str]:
    return [span.name for span in exporter.get_finished_spans()]


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    [found] = [span for span in exporter.get_finished_spans() if span.name == name]
    return found


def test_a_span_is_its_parents_child_and_says_only_what_is_on_the_list(export: Export) -> None:
    exporter = export(1.0)
    with tracing.span("outer") as outer, tracing.span("inner") as inner:
        inner.set(count=3, patient="cb1" + "a2" * 16, tx_id="no 01890a5d-ac96-774b-bcce-b302099a8057")

    found = named(exporter, "inner")
    assert found.parent is not None
    assert found.parent.span_id == outer.context.span_id
    assert found.attributes == {"cbmdhi.count": 3, "cbmdhi.tx_id": "no [masked]"}
    assert found.resource.attributes["service.name"] == "cbmdhi-ledger"
    assert found.resource.attributes["service.namespace"] == "mercy"


def test_at_ratio_nothing_only_what_the_caller_sampled_is_exported(export: Export) -> None:
    exporter = export(0.0)
    for traceparent in ("", NOT_SAMPLED, SAMPLED):
        context = tracing.extract({"traceparent": traceparent})
        with tracing.span(f"call {traceparent}", parent=context), tracing.span(f"inner {traceparent}"):
            pass

    assert names(exporter) == [f"inner {SAMPLED}", f"call {SAMPLED}"]


def test_what_the_caller_does_not_want_sampled_is_not_at_any_ratio(export: Export) -> None:
    exporter = export(1.0)
    with tracing.span("call", parent=tracing.extract({"traceparent": NOT_SAMPLED})):
        assert tracing.sampled() is None
    assert tracing.begin("record", NOT_SAMPLED, None) is None

    assert names(exporter) == []


def test_a_fault_is_exported_unsampled_along_its_way_under_the_ids_that_were_passed_on(
    export: Export,
) -> None:
    exporter = export(0.0)
    passed_on: list[str] = []

    def work() -> None:
        with tracing.span("went well"):
            pass
        with tracing.span("failed") as inner:
            passed_on.append(tracing.inject_headers()["traceparent"])
            inner.set(attempt=2)
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "reasons may say much")

    with pytest.raises(MeshError), tracing.span("call") as outer:
        work()

    assert names(exporter) == ["failed", "call"]
    found = named(exporter, "failed")
    assert found.context is not None
    assert found.parent is not None
    assert found.parent.span_id == outer.context.span_id
    assert passed_on == [f"00-{found.context.trace_id:032x}-{found.context.span_id:016x}-02"]
    assert found.status.status_code is StatusCode.ERROR
    assert found.status.description == "UNAVAILABLE"
    assert found.attributes == {"cbmdhi.attempt": 2, "cbmdhi.code": "UNAVAILABLE"}
    assert "reasons" not in found.to_json()
    assert (found.end_time or 0) >= (found.start_time or 0) > 0


def test_an_exception_of_our_own_is_a_fault_and_keeps_its_text_to_itself(export: Export) -> None:
    exporter = export(0.0)
    with pytest.raises(KeyError), tracing.span("work"):
        raise KeyError("Jane Doe")

    assert named(exporter, "work").status.description == "KeyError"
    assert "Jane" not in named(exporter, "work").to_json()


def test_a_refusal_is_an_answer_and_no_fault(export: Export) -> None:
    exporter = export(0.0)
    for code in (code_pb2.CODE_FORBIDDEN, code_pb2.CODE_INVALID, code_pb2.CODE_RESOURCE_EXHAUSTED):
        with pytest.raises(MeshError), tracing.span("call"):
            raise MeshError(code, "no")
    with pytest.raises(asyncio.CancelledError), tracing.span("call"):
        raise asyncio.CancelledError
    with pytest.raises(LookupError), tracing.span("call", expected=(LookupError,)):
        raise LookupError

    assert names(exporter) == []


def test_when_everything_fails_only_so_much_is_told(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing.time, "monotonic", lambda: 7.0)
    exporter = export(0.0)
    for _ in range(1_000):
        tracing.past("record", 1, code=code_pb2.CODE_UNAVAILABLE)

    assert len(names(exporter)) == 50


def test_a_record_begins_a_trace_of_its_own_unless_the_sender_gives_one(export: Export) -> None:
    exporter = export(1.0)
    with tracing.span("stream") as stream:
        for traceparent in ("", SAMPLED, "nonsense"):
            record = tracing.begin("record", traceparent, stream.context)
            assert record is not None
            tracing.end(record, code_pb2.CODE_OK)

    own, given, nonsense = (one for one in exporter.get_finished_spans() if one.name == "record")
    assert own.parent is None
    assert nonsense.parent is None
    assert own.context is not None
    assert given.context is not None
    assert f"{given.context.trace_id:032x}" in SAMPLED
    assert own.context.trace_id != stream.context.trace_id
    assert all(one.links[0].context.span_id == stream.context.span_id for one in (own, given, nonsense))


def test_with_nowhere_to_send_to_there_are_ids_for_the_logs_and_no_spans() -> None:
    tracing.configure("ledger", ratio=1.0)
    with tracing.span("call", parent=Context()) as outer, tracing.span("inner"):
        assert tracing.sampled() is None
        assert tracing.begin("record", SAMPLED, None) is None
        headers = tracing.inject_headers()

    assert outer.context.is_valid
    assert headers["traceparent"].split("-")[2] == f"{outer.context.span_id:016x}"


async def batch_of(items: dict[str, Any], process: Callable[[list[str]], Any]) -> list[Any]:
    """Each item enqueued with its span, all in one batch."""

    async def work(batch: list[str]) -> list[Any]:
        return process(batch)

    async with MicroBatcher[str, Any](
        work,
        max_count=100,
        max_bytes=100,
        linger_seconds=0.01,
        max_queue=100,
        size_of=lambda _: 1,
        max_in_flight=1,
    ) as batcher:
        waiting = [batcher.enqueue(item, span) for item, span in items.items()]
        return await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_batch_is_sampled_when_an_item_is_and_links_to_each_call_once(export: Export) -> None:
    exporter = export(0.0)
    one = tracing.begin("record", SAMPLED, None)
    assert one is not None
    context = one.get_span_context()
    await batch_of({"a": context, "b": None, "c": context}, lambda batch: batch)
    await batch_of({"d": None}, lambda batch: batch)

    [batch] = [span for span in exporter.get_finished_spans() if span.name == "batch"]
    assert [link.context for link in batch.links] == [context]
    assert batch.parent is None
    assert batch.attributes is not None
    assert batch.attributes["cbmdhi.count"] == 3


async def test_a_batch_in_which_one_item_failed_is_exported(export: Export) -> None:
    exporter = export(0.0)
    lost = MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "lost")
    await batch_of({"a": None, "b": None}, lambda _: ["fine", lost])

    assert named(exporter, "batch").status.description == "UNKNOWN_OUTCOME"


async def test_a_call_is_a_span_at_both_ends(export: Export, start: Start) -> None:
    exporter = export(1.0)
    net = await start()
    with tracing.span("outer"):
        await call(net.stub().List, notify_pb2.ListRequest(), deadline_seconds=5)

    client, server = (
        next(
            one
            for one in exporter.get_finished_spans()
            if one.name.endswith("/List") and one.kind.name == kind
        )
        for kind in ("CLIENT", "SERVER")
    )
    assert client.context is not None
    assert server.parent is not None
    assert server.parent.span_id == client.context.span_id
    assert server.name == "cbmdhi.notify.v1.InboxService/List"
