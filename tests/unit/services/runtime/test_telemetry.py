import ast
import json
import logging
from pathlib import Path

import pytest
import structlog
from opentelemetry import trace

from cbmdhi.protocol import ids
from services.runtime import telemetry, tracing
from services.runtime.log_events import EVENTS, UNLISTED


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_time_level_service_event_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger")
    with tracing.span("work") as span:
        structlog.get_logger().info("blocks.refused", block=7)

    (line,) = lines(capsys)
    assert line["service"] == "ledger"
    assert line["level"] == "info"
    assert line["event"] == "blocks.refused"
    assert line["block"] == 7
    assert str(line["ts"]).endswith("Z")
    assert line["trace_id"] == f"{span.context.trace_id:032x}"
    assert line["span_id"] == f"{span.context.span_id:016x}"


def test_a_field_that_is_not_on_the_list_is_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger")
    structlog.get_logger().info("batch.failed", patient="cb1x", body="Jane Doe", count=1)

    (line,) = lines(capsys)
    assert line["dropped_fields"] == ["body", "patient"]
    assert "Jane" not in json.dumps(line)
    assert line["count"] == 1


def test_addresses_and_ids_are_masked_and_objects_never_rendered(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger")
    address, record = "cb1" + "a2" * 16, "01890a5d-ac96-774b-bcce-b302099a8057"
    emergency = ids.emergency_id(address, b"opened")
    structlog.get_logger().info(
        "batch.failed", reason=f"no {address} and {record}, {emergency}.", batch={"x": address}
    )
    structlog.get_logger().info(f"got.{address}")

    text = capsys.readouterr().out
    assert address not in text
    assert record not in text
    assert emergency not in text
    assert "[dict]" in text
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["batch.failed", UNLISTED]


def test_lines_of_libraries_keep_their_template_and_lose_their_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    telemetry.configure("ledger")
    logging.getLogger("some.library").warning("could not parse %r", "Jane Doe")

    (line,) = lines(capsys)
    assert line["template"] == "could not parse %r"
    assert line["logger"] == "some.library"
    assert "Jane" not in json.dumps(line)


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger", log_level="warning")
    structlog.get_logger().info("block.read")

    assert lines(capsys) == []


def test_a_trace_travels_in_headers_and_in_metadata() -> None:
    telemetry.configure("ledger")
    with tracing.span("work") as span:
        headers = tracing.inject_headers({"ce-id": "1"})
        metadata = tracing.inject_metadata((("cbmdhi-caller", "x"),))

    assert headers["ce-id"] == "1"
    assert ("cbmdhi-caller", "x") in metadata
    for carrier in (headers, metadata, {"Traceparent": headers["traceparent"]}):
        found = trace.get_current_span(tracing.extract(carrier)).get_span_context()
        assert found.trace_id == span.context.trace_id


def test_asking_twice_for_a_metric_gives_the_same() -> None:
    metrics = telemetry.Metrics("ledger")
    metrics.counter("commands", "Commands", ("code",)).labels("OK").inc()
    metrics.counter("commands", "Commands", ("code",)).labels("OK").inc()

    assert metrics.registry.get_sample_value("cbmdhi_ledger_commands_total", {"code": "OK"}) == 2


def test_every_log_line_in_the_services_has_fields_of_the_list_alone() -> None:
    services = Path(telemetry.__file__).parents[1]
    strangers: list[str] = []
    for file in services.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_log")), keywords=keywords):
                    unknown = {word.arg for word in keywords if word.arg} - telemetry.LOG_FIELDS
                    strangers += [f"{file.relative_to(services)}:{node.lineno} {name}" for name in unknown]

    assert strangers == [], "add the field to telemetry.LOG_FIELDS if it can never be personal"


def _event_of(call: ast.Call) -> ast.expr | None:
    """Where a call names one: `_log.info(E)`, `_log.log(level, E)`, `guarded(w, E)`, `unexpected(e, E)`."""
    match call.func:
        case ast.Attribute(value=ast.Name(id="_log"), attr=method):
            return call.args[1 if method == "log" else 0]
        case ast.Name(id="guarded" | "unexpected") if len(call.args) > 1:
            return call.args[1]
        case _:
            return None


def test_the_list_of_events_is_exactly_what_the_services_log() -> None:
    services = Path(telemetry.__file__).parents[1]
    used = {"library.message", "internal.error"}  # of the handler for libraries; the default of `guarded`
    unclear: list[str] = []
    for file in services.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = _event_of(node) if isinstance(node, ast.Call) else None
            match named:
                case ast.Constant(value=str(event)):
                    used.add(event)
                # `errors.py` passes on what those give that call it.
                case ast.expr() if not (isinstance(named, ast.Name) and file.name == "errors.py"):
                    unclear.append(f"{file.relative_to(services)}:{named.lineno}")

    assert unclear == [], "name the event by a literal"
    assert used - EVENTS == set(), "add the event to services/runtime/log_events.py"
    assert EVENTS - used == set(), "nothing logs this any more"
