"""A real Prometheus over the real network: every panel, every alert, the catalogue, and what labels hold."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from bench.load.plan import Load
from bench.observe import load
from cbmdhi.client import Client
from ops.observe import catalogue, evaluate
from ops.observe.prometheus import Prometheus
from tests.e2e.conftest import People, observation
from tests.support.waiting import free_port, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

FEW = Load(rate=30.0, seconds=8.0, users=2, patients=3, reads=0.2)
MANY = Load(rate=30.0, seconds=6.0, users=6, patients=15, reads=0.2)
SETTLE_SECONDS = 60.0
READ = FEW.operations * FEW.reads
PERSONAL = re.compile(r"cb1[a-z2-7]{8,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", re.IGNORECASE)
FREE_TEXT = frozenset(("le", "quantile", "instance", "version", "implementation"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prometheus(people: People, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """It scrapes while a little of everything is done."""
    endpoints = people.stage.endpoints
    folder: Path = tmp_path_factory.mktemp("prometheus")
    async with Prometheus(folder, free_port(), endpoints) as running:
        report = await load.put(people.stage.home, endpoints, FEW)
        assert report["stands"], report
        yield running


async def test_every_query_of_every_panel_is_taken_and_none_is_empty_that_should_not_be(
    prometheus: Prometheus,
) -> None:
    found = await evaluate.panels_settled(prometheus, SETTLE_SECONDS)

    assert [
        (one.dashboard, one.panel.title, one.query.expr, one.problem) for one in found if one.problem
    ] == []
    # A share of the panels shows more than zeros: what was done was seen.
    assert sum(any(sample.values[-1][1] > 0 for sample in one.series) for one in found) > len(found) / 2


async def test_every_rule_is_evaluated_and_every_alert_could_fire(prometheus: Prometheus) -> None:
    assert await evaluate.rules(prometheus) == []
    assert await evaluate.missing_inputs(prometheus) == []


async def test_what_was_done_is_what_is_counted(
    prometheus: Prometheus, people: People, patient: Client
) -> None:
    [written] = await people.engine.records.put([observation(patient)])
    await people.engine.trail.blob(written.receipt.stored.cid)

    async def counted(series: str) -> float:
        return sum(sample.values[0][1] for sample in await prometheus.query(f"sum({series})"))

    async def all_counted() -> bool:
        done = FEW.operations * (1 - FEW.reads)
        return (
            min(
                await counted('cbmdhi_gateway_submission_seconds_count{kind="records"}') / done,
                await counted("cbmdhi_storage_records_sealed_total") / done,
                await counted('cbmdhi_storage_blobs_checked_total{holder="own",outcome="matched"}'),
                await counted('cbmdhi_gateway_access_decisions_total{kind="access",code="OK"}') / READ,
                await counted('cbmdhi_storage_key_releases_total{outcome="released"}') / READ,
                await counted('cbmdhi_gateway_rest_requests_total{route="metadata",code="OK"}') / 4,
                await counted("cbmdhi_storage_replicas_confirmed_total"),
                await counted("cbmdhi_notify_events_age_seconds_count"),
            )
            >= 1
        )

    await until(all_counted, "the load is in the counters", SETTLE_SECONDS)


async def test_every_target_is_scraped(prometheus: Prometheus) -> None:
    down = [(one["labels"], one["lastError"]) for one in await prometheus.scraped() if one["health"] != "up"]

    assert down == []
    # Services, peers, orderers, CAs, Kubo.
    assert prometheus.targets == 2 * 5 + 2 + 3 + 3 + 2


async def test_a_slow_call_leads_to_its_trace(prometheus: Prometheus) -> None:
    now = time.time()
    found = await prometheus.exemplars("cbmdhi_ledger_step_duration_seconds_bucket", now - 300, now)

    assert found
    assert all(re.fullmatch(r"[0-9a-f]{32}", labels["trace_id"]) for labels in found)


async def test_what_a_service_shows_is_what_the_catalogue_says(people: People) -> None:
    services: dict[str, Any] = people.stage.endpoints["organisations"]["mercy"]["services"]
    for service, where in services.items():
        async with aiohttp.ClientSession() as http, http.get(f"{where['metrics']}/metrics") as answer:
            text = await answer.text()
        shown = set(re.findall(r"^# TYPE (cbmdhi_\w+)", text, re.MULTILINE))
        listed = await asyncio.to_thread(catalogue.of_service, service)
        assert shown == {one.name for one in listed}, service


async def test_more_people_make_no_more_series_and_no_label_holds_one(
    prometheus: Prometheus, people: People
) -> None:
    before = await _series(prometheus)
    report = await load.put(people.stage.home, people.stage.endpoints, MANY)
    assert report["stands"], report
    after = await _series(prometheus)

    # Another code or method may be met for the first time; a label of a person would be met for each.
    new = after - before
    assert len(new) < MANY.patients - FEW.patients, sorted(map(sorted, new))
    assert len(after) < 8_000
    for labels in after:
        for name, value in labels:
            assert name in FREE_TEXT or not PERSONAL.search(value), (name, value)


async def _series(prometheus: Prometheus) -> set[frozenset[tuple[str, str]]]:
    """Label sets of the services' series, buckets left out."""
    found = await prometheus.query('{job="cbmdhi",__name__!~".*_bucket"}')
    return {frozenset(sample.labels.items()) for sample in found}
