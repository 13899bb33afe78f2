"""The table is made from what was measured, and says so when a bar is missed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import growth, headline, readme_table, results_files, soak
from bench.jmeter import sessions, summary
from bench.load.registered import Person
from bench.load.sampling import Sample, Usage
from bench.progress import People
from bench.readme_table import BEGIN, END, Line
from tests.support.fakes.gateway_people import checker


def step(rate: float, p95: float, *, stands: bool = True) -> dict[str, object]:
    return {"load": {"rate": rate}, "stands": stands, "latency_ms": {"p95": p95}, "problems": {}}


def test_those_who_are_registered_are_counted_aloud_with_the_time_that_is_left() -> None:
    now = iter([0.0, 60.0, 120.0])
    people = People(5_020, lambda: next(now))
    assert [people.more(20), people.more(250)] == ["", ""], "those of an earlier run are no news"
    said = [people.more(1) for _ in range(500)]
    assert [line.strip() for line in said if line] == [
        "500 of 5,020 people are registered, about 20 min more",
        "750 of 5,020 people are registered, about 18 min more",
    ]


def test_the_rate_is_the_highest_at_which_all_was_committed_within_the_bar() -> None:
    steps = [step(1000, 400), step(1400, 900), step(1800, 1200)]
    rate, p95 = headline.records_lines({"steps": steps})
    assert (rate.value, rate.met, p95.value) == (1400, True, 400)


def test_a_rate_at_which_something_was_lost_is_not_reached() -> None:
    rate, p95 = headline.records_lines({"steps": [step(1000, 400, stands=False)]})
    assert rate.value is None
    assert rate.met is False
    assert "not all committed" in p95.note


def test_a_probe_alone_proves_no_rate() -> None:
    steps = [step(1000, 400), {**step(1800, 1500), "probe": True}]
    assert headline.records_lines({"steps": steps})[0].value == 1000


@pytest.mark.parametrize(("value", "met"), [(350.0, True), (350.1, False), (None, False)])
def test_at_most_is_met_up_to_the_bar(value: float | None, met: bool) -> None:
    assert Line("p95", value, "ms", 350, 200, at_most=True).met is met


def test_of_several_runs_the_worst_counts() -> None:
    runs = [[Line("a", 900, "/s", 1000)], [Line("a", 1200, "/s", 1000)]]
    assert readme_table.worst([run[0] for run in runs]).value == 900
    assert "| a | ≥ 1,000/s |  | 900/s (worst of 2: 900/s, 1,200/s) | **no** |" in readme_table.markdown(runs)
    late = [Line("p95", 100, "ms", 200, at_most=True), Line("p95", 300, "ms", 200, at_most=True)]
    assert readme_table.worst(late).value == 300
    assert readme_table.worst([*late, Line("p95", None, "ms", 200)]).value is None


def test_the_plots_that_are_kept_are_those_of_the_worst_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_files, "_DRAWINGS", tmp_path / "runs")
    kept = tmp_path / "results"
    kept.mkdir()
    (kept / "records-1300-cpu.png").write_text("of an earlier measurement")
    (kept / "figure-5.png").write_text("another's")
    for at in range(3):
        (results_files.drawings("records", at) / "records-1000-cpu.png").write_text(f"run {at}")
    runs = [{"steps": [step(1000, p95), step(1150, 9_000)]} for p95 in (551, 4_755, 761)]
    results_files.keep_drawings("records", headline.worst_run(runs), kept)
    assert {file.name: file.read_text() for file in kept.iterdir()} == {
        "figure-5.png": "another's",
        "records-1000-cpu.png": "run 1",
    }


def test_an_aim_that_is_met_is_told_from_a_bar_that_is() -> None:
    text = readme_table.markdown([[Line("a", 1800, "/s", 1000, 1800), Line("b", 1000, "/s", 1000, 1800)]])
    assert "| a | ≥ 1,000/s | ≥ 1,800/s | 1,800/s | aim met |" in text
    assert "| b | ≥ 1,000/s | ≥ 1,800/s | 1,000/s | yes |" in text


def test_only_what_is_between_the_marks_is_rewritten() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert readme_table.rewritten(text, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert readme_table.rewritten(readme_table.rewritten(text, "new"), "new") == readme_table.rewritten(
        text, "new"
    )
    with pytest.raises(ValueError, match="marks"):
        readme_table.rewritten("no marks", "new")


@pytest.mark.parametrize("file", [bench.README, bench.PERFORMANCE], ids=["README", "performance"])
def test_the_documents_show_what_was_measured_last(file: Path) -> None:
    documents = results_files.read(results_files.RESULTS)
    block = bench.short(documents) if file == bench.README else bench.markdown(documents)
    text = file.read_text()
    assert readme_table.rewritten(text, block) == text


def test_the_readmes_table_shows_the_worst_of_what_has_a_bar() -> None:
    runs = [
        [Line("a", 1_200, "/s", 1_000), Line("no bar", 1, "ms")],
        [Line("a", 900, "/s", 1_000), Line("no bar", 2, "ms")],
    ]
    assert readme_table.short(runs).splitlines()[2:] == ["| a | 900/s | ≥ 1,000/s |"]


def test_processes_are_listed_in_columns_largest_first() -> None:
    rows = readme_table.cpu_table({"a": 300.0, "b": 200.0, "c": 100.0, "idle": 0.2}).splitlines()
    assert rows[2:] == ["| a | 300 | | c | 100 |", "| b | 200 | |  |  |"]


def test_rows_are_kept_with_what_they_were_measured_on(tmp_path: Path) -> None:
    results_files.write(tmp_path, "lone", [{"latency_ms": {"p95": 120.0}}])
    (tmp_path / "other.json").write_text("{}")
    documents = results_files.read(tmp_path)
    assert list(documents) == ["lone"]
    assert documents["lone"]["machine"]["cores"]
    text = bench.markdown(documents)
    assert "| p95 of a lone record | ≤ 350 ms | ≤ 200 ms | 120 ms | aim met |" in text
    assert "Measured" in text


def test_a_problem_of_any_step_is_told() -> None:
    run = {"steps": [{"problems": {"a blob is not there": 2}}], "problems": {}}
    assert bench.problems_of(run) == ["2 × a blob is not there"]


def test_memory_that_settles_is_no_growth_and_a_leak_is() -> None:
    def usage(mib_per_minute: float) -> Usage:
        made = Usage()
        for at in range(0, 600, 5):
            size = 100 * 2**20 + int(mib_per_minute * 2**20 * at / 60)
            made.samples.append(Sample(float(at), {}, {"mercy-gateway": size}))
        return made

    assert not soak.fit(usage(0.2), "mercy-gateway", 60.0)["grows"]
    leaking = soak.fit(usage(5.0), "mercy-gateway", 60.0)
    assert leaking["grows"]
    assert leaking["mib_per_minute"] == pytest.approx(5.0)


def test_growth_is_measured_against_ten_thousand_records_not_against_the_empty_channel() -> None:
    def point(records: int, us: float) -> dict[str, object]:
        return {"records": records, "cpu": {"us_per_operation_in_all": us}}

    begun = [point(1_000, 900.0), point(10_000, 1_000.0), point(30_000, 990.0), point(50_000, 1_600.0)]
    # One look in a slow moment of the machine is neither the beginning nor the end.
    grown = [point(960_000, 1_390.0), point(980_000, 5_000.0), point(1_000_000, 1_400.0)]
    assert growth.cost_rise([*begun, point(500_000, 1_200.0), *grown]) == pytest.approx(1.4)


def test_what_jmeter_measured_is_summed_up_with_its_failures() -> None:
    rows = [
        {"timeStamp": "1000", "elapsed": "100", "success": "true", "responseCode": "200"},
        {"timeStamp": "1500", "elapsed": "500", "success": "true", "responseCode": "200"},
        {"timeStamp": "1600", "elapsed": "300", "success": "false", "responseCode": "503"},
    ]
    result = summary.summary(rows)
    assert (result["requests"], result["per_second"], result["average_ms"]) == (3, 2.0, 300.0)
    assert result["failed"] == {"503": 1}
    assert summary.summary([])["per_second"] == 0.0


def test_what_jmeter_writes_is_valid_about_its_patient_and_of_a_kilobyte() -> None:
    patients = [Person("one", "cb1" + "a" * 32), Person("two", "cb1" + "b" * 32)]
    rows = sessions.bodies(patients)
    for number, name, kind, body in rows[:8]:
        resource = json.loads(body)
        assert checker().check(body.encode()) == kind
        assert resource["subject"]["reference"] == f"Patient/{patients[int(number) % 2].address}"
        assert name == patients[int(number) % 2].name
        assert 900 <= len(body) <= 1_050
        assert "\t" not in body
