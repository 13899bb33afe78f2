"""Records and reads end to end: the rows that have bars.

A rate counts as reached when every record that was due was committed, nothing was refused, and 95 of 100
had their receipt within the bar: a generator in open loop cannot reach that while falling behind. Rates above
the bar are probed first, so that a machine that cannot sustain one does not spend minutes in a backlog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import idle_network
from bench.load import outputs, plots, report
from bench.load.plan import Load
from bench.load.session import Ran, Session
from bench.readme_table import Line

P95_BAR_MS, P95_AIM_MS = 1_000.0, 500.0
_PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """How much of it: the whole, or a smoke of seconds.

    rates       of records a second, ascending; the first is the bar's
    read_rates  likewise
    first_read_rate  of the first read of each patient
    """

    rates: tuple[float, ...] = (1_000.0, 1_150.0, 1_300.0, 1_500.0, 1_800.0)
    read_rates: tuple[float, ...] = (500.0, 1_000.0)
    seconds: float = 60.0
    read_seconds: float = 30.0
    first_read_rate: float = 150.0
    lone_rate: float = 2.0
    lone_seconds: float = 40.0
    sample: int = 1_000
    users: int = 20
    streams: int = 1
    patients: int = 5_000
    layer_seconds: float = 15.0
    flood_records: int = 12_000
    hostile_rate: float = 300.0
    hostile_seconds: float = 20.0

    def load(self, rate: float, seconds: float, reads: float = 0.0, bad: float = 0.0) -> Load:
        """A load of this plan's people and 1 kB records."""
        return Load(rate, seconds, self.users, self.streams, self.patients, 1000, reads, bad)


QUICK = Plan(
    rates=(50.0, 100.0),
    read_rates=(20.0,),
    first_read_rate=10.0,
    seconds=3.0,
    read_seconds=3.0,
    lone_seconds=3.0,
    sample=50,
    users=4,
    patients=20,
    layer_seconds=2.0,
    flood_records=150,
    hostile_rate=50.0,
    hostile_seconds=3.0,
)


async def records(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """The ladder of rates, each verified."""
    return {"steps": await _ladder(session, plan, folder, plan.rates, plan.seconds, reads=0.0)}


async def reads(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """The same for authorised reads alone, after a first look at most patients.

    The first read of a patient in ten minutes opens the writer's key and finds its content on the disk: that
    is told apart, at a lower rate.
    """
    first = report.report(await session.run(plan.load(plan.first_read_rate, plan.read_seconds, reads=1.0), 0))
    steps = await _ladder(session, plan, folder, plan.read_rates, plan.read_seconds, reads=1.0)
    return {"first": first, "steps": steps}


async def lone(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """Records so far apart that each travels alone."""
    return report.report(await session.run(plan.load(plan.lone_rate, plan.lone_seconds), plan.sample))


def records_lines(run: dict[str, Any]) -> list[Line]:
    """The highest rate reached, and p95 at the bar's."""
    first = run["steps"][0]
    best = _best(run, "latency_ms")
    note = f"p95 {best['latency_ms']['p95']:,.0f} ms" if best else ""
    return [
        Line("records/s, end to end", _rate(best), "/s", 1_000, 1_800, note=note),
        Line(
            "p95 from due to receipt, at the bar's rate",
            first["latency_ms"].get("p95"),
            "ms",
            P95_BAR_MS,
            P95_AIM_MS,
            at_most=True,
            note="" if _reached(first, "latency_ms") else "not all committed in time",
        ),
        *_pace(run),
    ]


def _pace(run: dict[str, Any]) -> list[Line]:
    """How slow the machine was before and after: what swings from run to run without the mesh."""
    found: list[float] = run.get("pace_ms", [])
    measure = "the machine itself: a fixed loop of plain Python, before and after"
    return [Line(measure, sum(found) / len(found), "ms", at_most=True)] if found else []


def reads_lines(run: dict[str, Any]) -> list[Line]:
    """The highest rate of reads reached, and p95 at the bar's."""
    first, best = run["steps"][0], _best(run, "read_latency_ms")
    note = f"p95 {best['read_latency_ms']['p95']:,.0f} ms" if best else ""
    p95 = first["read_latency_ms"].get("p95")
    return [
        Line(
            f"authorised reads/s, in charts of {first['load'].get('chart', 1)}",
            _rate(best),
            "/s",
            500,
            1_000,
            note=note,
        ),
        Line("p95 of reads, at the bar's rate", p95, "ms", P95_BAR_MS, P95_AIM_MS, at_most=True),
        *_first_reads(run),
    ]


def _first_reads(run: dict[str, Any]) -> list[Line]:
    if "first" not in run:
        return []
    rate, p95 = run["first"]["load"]["rate"], run["first"]["read_latency_ms"].get("p95")
    return [Line(f"p95 of reads at {rate:g}/s, most the first of a patient", p95, "ms", at_most=True)]


def lone_lines(run: dict[str, Any]) -> list[Line]:
    """p95 of a lone record."""
    return [Line("p95 of a lone record", run["latency_ms"].get("p95"), "ms", 350, 200, at_most=True)]


def worst_run(runs: Sequence[dict[str, Any]]) -> int:
    """Which of a row's runs had the highest p95 at the bar's rate: its plots say what went wrong."""
    return max(range(len(runs)), key=lambda at: _slowest(runs[at]))


def _slowest(run: dict[str, Any]) -> float:
    first = run["steps"][0] if "steps" in run else run
    found = (first.get(key, {}).get("p95", 0.0) for key in ("latency_ms", "read_latency_ms"))
    return max(found)


async def _ladder(
    session: Session, plan: Plan, folder: Path, rates: tuple[float, ...], seconds: float, reads: float
) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    key = "read_latency_ms" if reads else "latency_ms"
    for rate in rates:
        if steps and seconds > _PROBE_SECONDS:
            probe = report.report(await session.run(plan.load(rate, _PROBE_SECONDS, reads), 0))
            if not _reached(probe, key):
                steps.append({**probe, "probe": True})
                break
            await idle_network.settled(session.home)
        ran = await session.run(plan.load(rate, seconds, reads), plan.sample)
        steps.append(report.report(ran))
        _keep(ran, folder, f"{'reads' if reads else 'records'}-{rate:.0f}-")
        if not _reached(steps[-1], key):
            break
    return steps


def _keep(ran: Ran, folder: Path, prefix: str) -> None:
    plots.draw(ran, folder, prefix)
    outputs.write_seconds(folder / f"{prefix}seconds.csv", ran.tally)


def _reached(step: dict[str, Any], key: str) -> bool:
    return step["stands"] and step[key].get("p95", float("inf")) <= P95_BAR_MS


def _best(run: dict[str, Any], key: str) -> dict[str, Any] | None:
    reached = [step for step in run["steps"] if _reached(step, key) and not step.get("probe")]
    return max(reached, key=lambda step: step["load"]["rate"]) if reached else None


def _rate(step: dict[str, Any] | None) -> float | None:
    return step["load"]["rate"] if step else None
