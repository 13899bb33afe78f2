"""Bad input under load: what it costs those who do everything right, before, with and after, in one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from bench import hostile_clients
from bench.headline import Plan
from bench.hostile_clients import Nuisance
from bench.load import report
from bench.load.plan import Load
from bench.load.session import Session
from bench.readme_table import Line

# Everything due at once: the stream's window then lets in what the mesh can do, and no more.
_FLOOD_RATE = 50_000.0
_BAD = 0.01
_PAIRS = 5
_LOOKS = 2

_NUISANCES: dict[str, Nuisance] = {
    "a client that never reads its receipts": hostile_clients.never_reads,
    f"{hostile_clients.DRIPPING} clients that drip a byte a second": hostile_clients.dripping,
    f"{hostile_clients.IDLE:,} idle connections": hostile_clients.idle,
}


async def measure(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """Throughput of good records with and without bad ones; p99 beside each nuisance."""
    return {
        "bad": await _bad(session, plan),
        "nuisances": [await _beside(session, plan, name, made) for name, made in _NUISANCES.items()],
    }


async def _bad(session: Session, plan: Plan) -> dict[str, Any]:
    """Floods without and with bad records in turn, so that a machine that slows down slows both."""
    clean = plan.load(_FLOOD_RATE, plan.flood_records / _FLOOD_RATE)
    dirty = replace(clean, bad=_BAD)
    order: list[Load] = [
        load for turn in range(_PAIRS) for load in ((clean, dirty), (dirty, clean))[turn % 2]
    ]
    results: dict[float, list[dict[str, Any]]] = {0.0: [], _BAD: []}
    problems: dict[str, int] = {}
    for load in order:
        result = report.report(await session.run(load, sample=0))
        results[load.bad].append(result)
        problems |= result["problems"]
    # Of as many records one in a hundred is no good: the rate of the good ones may fall by that much besides.
    without, with_bad = (_rate(results[share]) for share in (0.0, _BAD))
    return {
        "share": _BAD,
        "without": [result["records_per_second"] for result in results[0.0]],
        "with": [result["records_per_second"] for result in results[_BAD]],
        "loss": 1 - with_bad / (without * (1 - _BAD)),
        "cpu_us_without": [_cpu(result) for result in results[0.0]],
        "cpu_us_with": [_cpu(result) for result in results[_BAD]],
        "problems": problems,
    }


def _rate(floods: list[dict[str, Any]]) -> float:
    """Good records a second of several floods together."""
    return sum(flood["committed"] for flood in floods) / sum(flood["seconds"] for flood in floods)


def _cpu(flood: dict[str, Any]) -> float:
    return flood["cpu"]["us_per_operation_in_all"]


async def _beside(session: Session, plan: Plan, name: str, made: Nuisance) -> dict[str, Any]:
    """Without, with, without, with, without: what the machine does meanwhile is in both."""
    load = plan.load(plan.hostile_rate, plan.hostile_seconds)
    results = [report.report(await session.run(load, sample=0))]
    for _ in range(_LOOKS):
        async with made(session):
            results.append(report.report(await session.run(load, sample=0)))
        results.append(report.report(await session.run(load, sample=0)))
    p99s = [result["latency_ms"]["p99"] for result in results]
    problems = {why: count for result in results for why, count in result["problems"].items()}
    return {
        "name": name,
        "p99_ms": p99s,
        "rise": fmean(p99s[1::2]) / fmean(p99s[::2]) - 1,
        "problems": problems,
    }


def lines(run: dict[str, Any]) -> list[Line]:
    """Loss and rises in percent."""
    bad = run["bad"]
    found = [
        Line(
            f"{bad['share']:.0%} bad records: loss of the good ones' throughput",
            max(bad["loss"] * 100, 0.0),
            "%",
            3.0,
            at_most=True,
        )
    ]
    for entry in run["nuisances"]:
        found.append(
            Line(
                f"{entry['name']}: rise of the others' p99",
                max(entry["rise"] * 100, 0.0),
                "%",
                10.0,
                at_most=True,
                note=f"p99 {' → '.join(f'{p99:,.0f}' for p99 in entry['p99_ms'])} ms",
            )
        )
    return found
