"""The load tool counts honestly: from when a record was due, and only what stands."""

from __future__ import annotations

import asyncio
import csv
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench.load import outputs, payloads, plots, register
from bench.load.chain import Verdict
from bench.load.check import Checked, choose, compare
from bench.load.plan import BAD_KINDS, GOOD, READ, REPLAY, SCHEMA, Load
from bench.load.prepare import Item, id_at
from bench.load.registered import Known, Person
from bench.load.report import report, seconds
from bench.load.run import Feed
from bench.load.sampling import PREPARING, Sample, Usage, Watch, grown_bytes_per_minute
from bench.load.session import Ran
from bench.load.tally import Kept, Stands, Tally, quantile
from cbmdhi.client import ingest_messages
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import ids
from ops.devnet import processes

LOAD = Load(rate=10.0, seconds=1.0, users=2, patients=2)
OK = code_pb2.CODE_OK


def tally(committed: int, load: Load = LOAD) -> Tally:
    """The first `committed` of a load's records came after 0.1 s each."""
    made = Tally(load)
    for number in range(committed):
        made.note(number, GOOD, OK, load.due_seconds(number) + 0.1)
    return made


def ran(committed: int, checked: Checked | None = None) -> Ran:
    before = Sample(0.0, {"mercy-peer": 1.0, "generator": 0.0}, {})
    after = Sample(2.0, {"mercy-peer": 1.5, "generator": 0.1}, {"mercy-peer": 2**20})
    usage = Usage({"mercy-peer": 0.5, "generator": 0.1}, [before, after], seconds=2.0)
    return Ran(LOAD, tally(committed), usage, checked or Checked())


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_a_value_that_occurred(share: float, value: int) -> None:
    assert quantile(list(range(100, 0, -1)), share) == value


def test_of_nothing_there_is_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


def test_records_are_due_evenly_whatever_became_of_earlier_ones() -> None:
    assert LOAD.operations == 10
    assert [LOAD.due_seconds(number) for number in (0, 1, 9)] == [0.0, 0.1, 0.9]


def test_reads_and_bad_records_are_spread_over_the_whole_run_in_the_shares_asked_for() -> None:
    load = Load(rate=100, seconds=100, reads=0.25, bad=0.01)
    kinds = [load.kind(number) for number in range(load.operations)]
    counts = Counter(kinds)
    assert counts[READ] == 2_500
    assert {counts[kind] for kind in BAD_KINDS} <= {18, 19}
    assert Counter(kinds[:1_000])[READ] == 250


def test_what_is_due_goes_out_together_and_nothing_twice() -> None:
    feed = Feed(items=[_item(number) for number in range(10)])
    assert [item.number for item in feed.take_due(LOAD, 0.35)] == [0, 1, 2, 3]
    assert feed.take_due(LOAD, 0.35) == []
    assert [item.number for item in feed.take_due(LOAD, 5.0)] == [4, 5, 6, 7, 8, 9]
    assert not feed.done
    feed.ended = True
    assert feed.done


@pytest.mark.parametrize("size", [300, 1000, 20_000])
def test_contents_are_resources_of_several_types_with_the_bytes_that_were_asked_for(size: int) -> None:
    made = payloads.templates(size)
    record_id = id_at(1_700_000_000_000, 1)
    assert {len(template.content(record_id, "cb1" + "a" * 32)) for template in made} == {size}
    assert len({template.category for template in made}) >= 3


def test_an_id_carries_the_moment_when_it_is_due() -> None:
    first, second = id_at(1_700_000_000_000, 1), id_at(1_700_000_000_001, 0)
    assert ids.is_uuid7(first)
    assert first < second


def test_a_message_put_together_from_bytes_is_the_one_that_the_gateway_reads() -> None:
    items = [gateway_pb2.IngestItem(submission_id=f"{number}-" + "x" * 300) for number in range(1_200)]
    sent = list(ingest_messages.requests([item.SerializeToString() for item in items]))
    read = [item for raw in sent for item in gateway_pb2.IngestRequest.FromString(raw).items]
    assert read == items
    assert len(sent) == 3


def test_a_run_stands_when_everything_sent_was_committed_and_no_check_failed() -> None:
    result = report(ran(10, Checked(transactions=1)))
    assert result["stands"]
    assert result["records_per_second"] == 10.0
    assert result["latency_ms"]["p95"] == 100.0
    assert result["cpu"]["us_per_operation"] == {"mercy-peer": 50_000.0, "generator": 10_000.0}


def test_a_run_with_a_lost_receipt_or_a_failed_check_does_not_stand() -> None:
    assert not report(ran(9))["stands"]
    assert report(ran(9))["refused"] == {"NO_ANSWER": 1}
    failed = Checked()
    failed.failures["a blob is not there"] += 1
    assert not report(ran(10, failed))["stands"]


def test_a_bad_record_that_gets_another_verdict_than_its_own_is_a_problem() -> None:
    made = Tally(Load(rate=10, seconds=1, bad=0.5))
    made.note(0, SCHEMA, code_pb2.CODE_INVALID, 0.1)
    made.note(1, REPLAY, OK, 0.1, again=True)
    assert not made.problems
    made.note(2, SCHEMA, OK, 0.1)
    made.note(3, REPLAY, OK, 0.1)
    assert sum(made.problems.values()) == 2
    assert made.committed == 0


def test_a_receipt_that_the_block_contradicts_is_noticed() -> None:
    made = tally(4)
    for number in range(4):
        made.stands[number] = Stands("tx", 5, f"c{number}", "a", OK, f"cid{number}", "root")
        made.kept[number] = Kept("p", f"r{number}", b"hash", b"content")
    there = {("c0", "a"): Verdict(OK, b"hash", "cid0"), ("c1", "a"): Verdict(OK, b"other", "cid1")}
    there["c2", "a"] = Verdict(OK, b"hash", "cid of something else")
    checked = Checked()
    compare(checked, "MercyMSP", {"tx": there}, made)
    assert checked.verdicts == 1
    assert sum(checked.failures.values()) == 3


def test_the_sample_is_as_large_as_asked_for_when_there_are_as_many_records() -> None:
    made = tally(0, Load(rate=100, seconds=1))
    for number in range(100):
        made.stands[number] = Stands("tx", 5, f"c{number}", "a", OK, f"cid{number}", "root")
        made.kept[number] = Kept(f"p{number % 3}", f"r{number}", b"", b"")
    assert sum(len(records) for records in choose(made, 50).values()) == 50
    assert sum(len(records) for records in choose(made, 1_000).values()) == 100


def test_a_stall_shows_in_the_seconds_when_records_were_due(tmp_path: Path) -> None:
    load = Load(rate=2, seconds=3)
    made = Tally(load)
    for number, at in enumerate((0.1, 0.6, 2.9, 2.9, 2.9, 2.9)):
        made.note(number, GOOD, OK, at)
    lines = list(seconds(made))
    assert [(line.due, line.done, line.in_flight) for line in lines] == [(2, 2, 0), (2, 0, 2), (2, 4, 0)]
    assert [round(line.p95_ms) for line in lines] == [100, 1900, 900]
    outputs.write_seconds(tmp_path / "seconds.csv", made)
    outputs.write_records(tmp_path / "records.csv", made)
    assert len(list(csv.DictReader((tmp_path / "seconds.csv").open()))) == 3
    last = list(csv.DictReader((tmp_path / "records.csv").open()))[-1]
    assert last == {"due_seconds": "2.5000", "kind": "good", "latency_ms": "400.00", "code": "OK"}


def test_a_program_of_the_network_that_this_process_started_is_counted_once(tmp_path: Path) -> None:
    marked = {**os.environ, **processes.marks(tmp_path, "mercy-ipfs-alone")}
    code = "print('runs', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=marked, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident = Watch(tmp_path).sample().rss_bytes
        process.communicate(b"\n")
    assert resident["mercy-ipfs-alone"] > 0
    assert PREPARING not in resident


def test_each_programs_memory_is_written_and_left_empty_where_it_was_not_there(tmp_path: Path) -> None:
    mib = 2**20
    samples = [Sample(0.0, {}, {"peer": 3 * mib}), Sample(1.0, {}, {"peer": 4 * mib, "gateway": 2 * mib})]
    outputs.write_memory(tmp_path / "memory.csv", Usage(samples=samples))
    assert (tmp_path / "memory.csv").read_text().split() == [
        "seconds,gateway,peer",
        "0.0,,3.0",
        "1.0,2.0,4.0",
    ]


def test_the_mesh_is_drawn_apart_from_what_makes_its_load(tmp_path: Path) -> None:
    sizes = {"mercy-gateway": 2.0, "generator": 900.0, "mercy-peer": 4.0, PREPARING: 300.0}
    samples = [(float(at), {name: size * 2**20 for name, size in sizes.items()}) for at in range(3)]
    assert plots.apart(samples) == (["mercy-peer", "mercy-gateway"], ["generator", PREPARING])
    assert plots.memory(tmp_path / "memory.png", "a load", samples).read_bytes().startswith(b"\x89PNG")


def test_growth_is_told_from_the_noise_of_the_first_minute() -> None:
    filling = [(float(at), 1e9 * at) for at in range(60)]
    steady = [(float(at), 60e9 + 1_000 * at) for at in range(60, 600)]
    assert grown_bytes_per_minute(filling + steady) == pytest.approx(60_000)
    assert grown_bytes_per_minute([]) == 0.0


def test_who_was_registered_is_known_to_the_next_run_but_for_a_torn_line(tmp_path: Path) -> None:
    known = Known.of(tmp_path)
    known.add_patients([Person("hammer-patient-00000", "cb1a")])
    known.add_staff(Person("hammer-author-0", "cb1b"))
    with known.file.open("a") as file:
        file.write('{"kind": "patient", "na')
    again = Known.of(tmp_path)
    assert again.patients == known.patients
    assert again.staff == known.staff


def _item(number: int) -> Item:
    return Item(number, GOOD, b"", str(number), "", "", "", "", b"", b"")


@pytest.mark.parametrize(
    ("failures", "ends_well", "calls"),
    [
        ([code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.CODE_UNAVAILABLE], True, 3),
        ([code_pb2.CODE_UNAVAILABLE] * 3, False, 3),
        ([code_pb2.CODE_CONFLICT], False, 1),
    ],
)
async def test_a_registration_that_was_late_is_tried_again_and_a_refused_one_is_not(
    monkeypatch: pytest.MonkeyPatch, failures: list[int], ends_well: bool, calls: int
) -> None:
    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr(asyncio, "sleep", at_once)
    called = 0

    async def work() -> str:
        nonlocal called
        called += 1
        if called <= len(failures):
            raise MeshError(failures[called - 1], "no")
        return "registered"

    if ends_well:
        assert await register.again(work) == "registered"
    else:
        with pytest.raises(MeshError):
            await register.again(work)
    assert called == calls
