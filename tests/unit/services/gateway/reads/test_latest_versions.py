"""Which version is the latest is told to whom may read it; all others cannot tell what is there."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.session import Session
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.reads.latest_versions import LatestVersions
from services.runtime.errors import MeshError, code_name
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import Person

PATIENT, OTHER, READER = Person().address, Person().address, Person().address


@dataclass
class Chart:
    """A record of the patient's with three versions, one of another patient, and one that is not there."""

    refused: RefusalQuotas = field(default_factory=lambda: RefusalQuotas(3, 0.001))
    ledger: FakeLedger = field(default_factory=FakeLedger)
    mine: str = field(default_factory=uuid7)
    others: str = field(default_factory=uuid7)
    nowhere: str = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        self.metrics = Metrics("gateway")
        self.latest = LatestVersions(self.ledger, self.refused, GatewayMetrics(self.metrics))
        for version in (1, 2, 3):
            record = RecordVersion(record_id=self.mine, version=version, patient=PATIENT)
            self.ledger.records_kept[self.mine, version] = record
        self.ledger.records_kept[self.others, 1] = RecordVersion(
            record_id=self.others, version=1, patient=OTHER
        )

    async def told(self, role: str = "engine", address: str = READER, **more: bool) -> list[int]:
        session = Session(address, role, "MercyMSP", "", "jkt", "", 2**40)
        asked = [self.mine, self.others, self.nowhere]
        return await self.latest.of(PATIENT, asked, session, **more)


async def test_the_patient_and_who_may_read_are_told_and_nobody_else() -> None:
    chart = Chart()
    assert await chart.told("patient", PATIENT) == [3, 0, 0]
    assert await chart.told() == [0, 0, 0]

    chart = Chart()
    chart.ledger.searchable.update((chart.mine, chart.others))
    assert await chart.told() == [3, 0, 0]


async def test_what_is_not_there_and_what_is_not_theirs_is_asked_about_alike() -> None:
    chart = Chart()
    await chart.told()

    asked: dict[str, list[tuple[str, str]]] = {}
    for item in chart.ledger.explained:
        asked.setdefault(item.record_id, []).append((item.action, item.purpose))
    assert asked[chart.mine] == asked[chart.others] == asked[chart.nowhere]
    assert {item.version for item in chart.ledger.explained if item.record_id == chart.mine} == {3}


async def test_a_consent_for_another_purpose_than_treatment_counts() -> None:
    chart = Chart()

    async def for_research(items: Any) -> list[Any]:
        chart.ledger.searchable.clear()
        if any(item.purpose == "HRESCH" for item in items):
            chart.ledger.searchable.add(chart.mine)
        return await FakeLedger.explain(chart.ledger, items)

    chart.ledger.explain = for_research  # type: ignore[method-assign]
    assert await chart.told("researcher") == [3, 0, 0]


async def test_a_clinician_is_told_what_breaking_the_glass_has_to_name_and_is_counted() -> None:
    chart = Chart()
    assert await chart.told("clinician", for_break_glass=True) == [3, 0, 0]
    # Also while no other peer answers.
    assert not chart.ledger.explained
    counted = "cbmdhi_gateway_latest_versions_for_break_glass_total"
    assert chart.metrics.registry.get_sample_value(counted) == 1
    # All that was asked is spent, told or not.
    with pytest.raises(MeshError, match="refused"):
        await chart.told("clinician", for_break_glass=True)


async def test_a_clinician_who_lost_the_consent_watches_no_chart() -> None:
    chart = Chart()
    assert await chart.told("clinician") == [0, 0, 0]


@pytest.mark.parametrize("role", ["engine", "researcher", "administrator", "patient"])
async def test_nobody_else_breaks_a_glass(role: str) -> None:
    assert await Chart().told(role, for_break_glass=True) == [0, 0, 0]


async def test_who_asks_on_about_what_is_not_theirs_waits() -> None:
    chart = Chart()
    await chart.told()

    with pytest.raises(MeshError) as caught:
        await chart.told()

    assert (code_name(caught.value.code), caught.value.retry_after_ms > 0) == ("RESOURCE_EXHAUSTED", True)
    assert caught.value.outcome == code_pb2.OUTCOME_NOT_DONE
