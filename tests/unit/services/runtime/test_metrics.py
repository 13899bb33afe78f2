"""Exemplars, the age of a queue, and until when certificates hold."""

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from services.runtime import telemetry
from services.runtime.batching import MicroBatcher
from services.runtime.errors import MeshError
from services.runtime.expiry import note_expiry
from services.runtime.ops import OpsServer
from services.runtime.readiness import Readiness
from tests.support.pki import Consortium
from tests.support.waiting import until

OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


async def shown(metrics: telemetry.Metrics, headers: dict[str, str]) -> str:
    readiness = Readiness()
    readiness.set_state("ready")
    async with (
        OpsServer("127.0.0.1:0", readiness, metrics) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", headers=headers) as http,
        http.get("/metrics") as answer,
    ):
        return await answer.text()


async def test_a_sampled_duration_names_its_trace_to_whoever_asks_for_openmetrics() -> None:
    metrics = telemetry.Metrics("ledger")
    duration = metrics.histogram("work", "seconds", "Work")
    tracer = TracerProvider(sampler=ALWAYS_ON).get_tracer("test")
    with tracer.start_as_current_span("work") as span:
        duration.observe(0.2, telemetry.exemplar())
        trace_id = f"{span.get_span_context().trace_id:032x}"

    assert f'trace_id="{trace_id}"' in await shown(metrics, OPEN_METRICS)


def test_what_nobody_samples_names_no_trace() -> None:
    assert telemetry.exemplar() is None
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_as_current_span("work"):
        assert telemetry.exemplar() is None


async def test_readiness_is_a_metric() -> None:
    assert "cbmdhi_ledger_ready_bool 1.0" in await shown(telemetry.Metrics("ledger"), {})


async def test_metrics_come_at_once_while_what_the_service_depends_on_hangs() -> None:
    metrics, readiness = telemetry.Metrics("gateway"), Readiness()
    readiness.set_state("ready")

    async def hangs() -> str | None:
        await asyncio.Event().wait()
        return None

    readiness.add("ledger", hangs)
    async with (
        OpsServer("127.0.0.1:0", readiness, metrics) as server,
        aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http,
    ):

        async def says_not_ready() -> bool:
            # Sooner than the check itself gives up.
            async with asyncio.timeout(1.5), http.get("/metrics") as answer:
                return "cbmdhi_gateway_ready_bool 0.0" in await answer.text()

        metrics.gauge("ready", "bool", "as it was").set(1)
        assert not await says_not_ready()
        await until(says_not_ready, "the check has given up")


async def test_the_age_of_a_queue_is_that_of_its_oldest_item() -> None:
    metrics = telemetry.Metrics("ledger")
    may_answer = asyncio.Event()

    async def process(items: list[str]) -> list[str | Exception]:
        await may_answer.wait()
        return [*items]

    def age() -> float:
        return metrics.registry.get_sample_value("cbmdhi_ledger_queue_age_seconds", {"queue": "slow"}) or 0.0

    batches = MicroBatcher[str, str](
        process,
        max_count=1,
        max_bytes=100,
        linger_seconds=0,
        max_queue=10,
        size_of=len,
        max_in_flight=1,
        metrics=metrics,
        name="slow",
    )
    async with batches:
        assert age() == 0
        answers = [batches.enqueue(item) for item in ("a", "b")]
        await until(lambda: age() > 0.05, "the second waits for the first")
        may_answer.set()
        await asyncio.gather(*answers)
        assert age() == 0


def test_the_end_of_a_certificate_is_shown_by_what_it_is_for(consortium: Consortium) -> None:
    metrics = telemetry.Metrics("ledger")
    note_expiry(metrics, "tls", consortium.tls("ledger").certificate_file)

    ends = metrics.registry.get_sample_value(
        "cbmdhi_ledger_certificate_expiry_timestamp_seconds", {"certificate": "tls"}
    )
    assert ends is not None
    assert ends > time.time()


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")

    with pytest.raises(MeshError, match="no certificate"):
        note_expiry(telemetry.Metrics("ledger"), "tls", tmp_path / "no.pem")
