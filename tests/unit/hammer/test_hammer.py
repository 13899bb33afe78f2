"""The load tool counts honestly: from when a record was due, and only what stands."""

from __future__ import annotations

import json
import math

import pytest

from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.hammer import plan
from cbmdhi.hammer.check import Checked
from cbmdhi.hammer.plan import Load
from cbmdhi.hammer.report import quantile, report
from cbmdhi.hammer.run import Outcome

LOAD = Load(rate=10.0, seconds=1.0, users=2, size=1000)


def outcome(committed: int) -> Outcome:
    receipts = {str(number): gateway_pb2.RecordReceipt() for number in range(committed)}
    return Outcome([0.1] * committed, receipts, {}, seconds=2.0, generator_cpu_seconds=0.5)


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_a_value_that_occurred(share: float, value: int) -> None:
    assert quantile(list(range(100, 0, -1)), share) == value


def test_of_nothing_there_is_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


def test_records_are_due_evenly_whatever_became_of_earlier_ones() -> None:
    assert LOAD.records == 10
    assert [LOAD.due_seconds(number) for number in (0, 1, 9)] == [0.0, 0.1, 0.9]


@pytest.mark.parametrize("size", [300, 1000, 20_000])
def test_a_record_has_the_bytes_that_were_asked_for(size: int) -> None:
    assert len(json.dumps(plan.resource(size), separators=(",", ":"))) == size


def test_a_run_stands_when_everything_sent_was_committed_and_no_check_failed() -> None:
    result = report(LOAD, outcome(10), Checked(transactions=1))
    assert result["stands"]
    assert result["records_per_second"] == 5.0
    assert result["latency_ms"]["p95"] == 100.0
    assert result["generator_cpu_share"] == 0.25


def test_a_run_with_a_lost_receipt_or_a_failed_check_does_not_stand() -> None:
    assert not report(LOAD, outcome(9), Checked())["stands"]
    assert not report(LOAD, outcome(10), Checked(failures=["a blob is not there"]))["stands"]
