"""Reads in charts: due by the clock whatever became of the earlier ones, each counted by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.load import run
from bench.load.plan import READ, Load
from bench.load.reads import Readings
from bench.load.tally import Kept, Tally
from cbmdhi.client import Client
from cbmdhi.client.records import Reading
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.errors import MeshError
from cbmdhi.ledger.v1.ledger_pb2 import Receipt

CONTENT = b"a finding"
TARGETS = [Kept("p", f"r{number}", b"", sha256(CONTENT).digest()) for number in range(5)]


class Reader:
    """Reads everything but every third record of a chart."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.charts: list[int] = []
        self.alone = 0
        self._content = content

    async def read_many(self, places: Sequence[Any], purpose: str) -> list[Reading | MeshError]:
        self.charts.append(len(places))
        refused = MeshError(code_pb2.CODE_FORBIDDEN, "no")
        return [refused if index % 3 == 2 else self._reading() for index in range(len(places))]

    async def read(self, patient: str, record_id: str, version: int, purpose: str) -> Reading:
        self.alone += 1
        return self._reading()

    def _reading(self) -> Reading:
        receipt = Receipt(tx_id="tx", code=code_pb2.CODE_OK)
        return Reading(receipt, RecordVersion(), self._content, "MercyMSP")


async def readings(load: Load, reader: Reader) -> Tally:
    tally, started = Tally(load), time.monotonic()
    clock = lambda: time.monotonic() - started  # noqa: E731 - the run's own clock
    client = cast(Client, SimpleNamespace(records=reader))
    each = Readings([client], TARGETS, tally, clock)
    await asyncio.wait_for(run.read(load, range(load.operations), each.chart, tally, clock), 30)
    return tally


async def test_each_read_of_a_chart_is_counted_by_itself_from_when_it_was_due() -> None:
    reader = Reader()
    tally = await readings(Load(rate=100, seconds=0.25, reads=1, chart=10), reader)
    assert reader.charts == [10, 10, 5]
    assert (tally.sent, tally.read) == (25, 18)
    assert tally.refused(READ) == {"FORBIDDEN": 7}
    # The chart left when its last read was due: the first had waited for it.
    assert all(latency >= 0 for latency in tally.latencies)
    assert tally.latencies[0] >= tally.load.due_seconds(9)


@pytest.mark.parametrize("rate", [0.1, 1, 5, 19, 20, 100, 1000])
def test_no_read_waits_longer_than_half_a_second_for_its_chart_at_whatever_rate(rate: float) -> None:
    load = Load(rate=rate, seconds=100 / rate, reads=1, chart=10)
    charts = list(run.charts(load, range(load.operations)))
    assert [number for chart in charts for number in chart] == list(range(load.operations))
    for chart in charts:
        assert load.due_seconds(chart[-1]) - load.due_seconds(chart[0]) <= 0.5
    assert max(map(len, charts)) == min(10, int(rate * 0.5) + 1)


async def test_a_chart_of_one_is_a_read_by_itself() -> None:
    reader = Reader()
    tally = await readings(Load(rate=1000, seconds=0.01, reads=1, chart=1), reader)
    assert (reader.charts, reader.alone, tally.read) == ([], 10, 10)


async def test_a_record_that_does_not_read_as_written_is_a_problem() -> None:
    tally = await readings(Load(rate=1000, seconds=0.002, reads=1, chart=2), Reader(b"another"))
    assert tally.problems["a record does not read as it was written"] == 2
