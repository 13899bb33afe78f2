import ast
import json
import logging
from pathlib import Path

import pytest
import structlog
from opentelemetry import trace

from services.runtime import telemetry


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_is_json_with_time_level_service_event_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger")
    with telemetry.tracer.start_as_current_span("work") as span:
        structlog.get_logger().info("block.read", block=7)

    (line,) = lines(capsys)
    assert line["service"] == "ledger"
    assert line["level"] == "info"
    assert line["event"] == "block.read"
    assert line["block"] == 7
    assert str(line["ts"]).endswith("Z")
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_a_field_that_is_not_on_the_list_is_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger")
    structlog.get_logger().info("record.sealed", patient="cb1x", body="Jane Doe", count=1)

    (line,) = lines(capsys)
    assert line["dropped_fields"] == ["body", "patient"]
    assert "Jane" not in json.dumps(line)
    assert line["count"] == 1


def test_addresses_and_ids_are_masked_and_objects_never_rendered(capsys: pytest.CaptureFixture[str]) -> None:
    telemetry.configure("ledger")
    address, record = "cb1" + "a2" * 16, "01890a5d-ac96-774b-bcce-b302099a8057"
    structlog.get_logger().info(f"got.{address}", reason=f"no {address} and {record}.", batch={"x": address})

    text = capsys.readouterr().out
    assert address not in text
    assert record not in text
    assert "[dict]" in text


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
    with telemetry.tracer.start_as_current_span("work") as span:
        headers = telemetry.inject_headers({"ce-id": "1"})
        metadata = telemetry.inject_metadata((("cbmdhi-caller", "x"),))

    assert headers["ce-id"] == "1"
    assert ("cbmdhi-caller", "x") in metadata
    for carrier in (headers, metadata, {"Traceparent": headers["traceparent"]}):
        found = trace.get_current_span(telemetry.extract(carrier)).get_span_context()
        assert found.trace_id == span.get_span_context().trace_id


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
