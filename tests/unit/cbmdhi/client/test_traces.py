"""What a collector wrote, put together again and shown as text."""

import json
from pathlib import Path
from typing import Any

from cbmdhi.client.tracing import headers, traced
from ops.devnet import collected_traces

RECORD, BATCH = "a" * 32, "b" * 32
MILLISECOND = 1_000_000


def span(
    trace_id: str, span_id: str, name: str, *, parent: str = "", start: int = 0, took: int = 1, **more: Any
) -> dict[str, Any]:
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent,
        "name": name,
        "startTimeUnixNano": str(start * MILLISECOND),
        "endTimeUnixNano": str((start + took) * MILLISECOND),
        **more,
    }


def line(member: str, program: str, *spans: dict[str, Any]) -> str:
    about = [
        {"key": "service.name", "value": {"stringValue": f"cbmdhi-{program}"}},
        {"key": "service.namespace", "value": {"stringValue": member}},
    ]
    resource = {"resource": {"attributes": about}, "scopeSpans": [{"spans": list(spans)}]}
    return json.dumps({"resourceSpans": [resource]})


def test_a_batch_and_what_it_caused_stand_under_the_record_that_it_links_to(tmp_path: Path) -> None:
    files = [tmp_path / "mercy.jsonl", tmp_path / "lakeside.jsonl"]
    linked = [{"traceId": "c" * 32, "spanId": "9"}, {"traceId": RECORD, "spanId": "1"}]
    files[0].write_text(
        line("mercy", "ledger", span(BATCH, "4", "endorse", parent="3", start=12, took=60))
        + "\n"
        + line(
            "mercy",
            "gateway",
            span(RECORD, "1", "record", parent="client's own", start=0, took=100),
            span(BATCH, "3", "seal", start=10, took=80, links=linked),
            span("c" * 32, "9", "another record"),
        )
        + '\n{"resourceSpans": [still being wr'
    )
    failed = {
        "status": {"code": 2, "message": "UNAVAILABLE"},
        "attributes": [{"key": "cbmdhi.count", "value": {"intValue": "7"}}],
    }
    files[1].write_text(
        line("lakeside", "chaincode", span(BATCH, "5", "process", parent="4", start=20, took=5, **failed))
    )

    [root] = collected_traces.tree(collected_traces.read(files), RECORD)

    assert [node.span.name for node in root.walk()] == ["record", "seal", "endorse", "process"]
    shown = collected_traces.lines([root])
    assert [row.split()[-1] for row in shown[1:3]] == ["100.0", "80.0"]
    assert shown[-1].startswith("    └ process")
    assert "lakeside/chaincode" in shown[-1]
    assert shown[-1].endswith("20.0      5.0  count=7  ✗ UNAVAILABLE")


def test_a_trace_that_did_not_arrive_is_no_tree(tmp_path: Path) -> None:
    assert collected_traces.tree([], RECORD) == []
    assert collected_traces.lines([]) == []


def test_a_caller_without_a_tracer_can_have_a_trace_kept() -> None:
    assert headers() == {}
    with traced() as trace_id:
        assert headers()["traceparent"].split("-")[1] == trace_id
        assert headers()["traceparent"].endswith("-01")
    assert headers() == {}
