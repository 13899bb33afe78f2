"""Bad input under load: what it costs those who do everything right, before, with and after, in one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import nuisance
from bench.headline import Plan
from bench.nuisance import Nuisance
from bench.table import Line
from cbmdhi.hammer import report
from cbmdhi.hammer.plan import Load
from cbmdhi.hammer.session import Session

# Everything due at once: the stream's window then lets in what the mesh can do, and no more.
_FLOOD_RATE = 50_000.0
_BAD = 0.01
_PAIRS = 3

_NUISANCES: dict[str, Nuisance] = {
    "a client that never reads its receipts": nuisance.never_reads,
    f"{nuisance.DRIPPING} clients that drip a byte a second": nuisance.dripping,
    f"{nuisance.IDLE:,} idle connections": nuisance.idle,
}


async def measure(session: Session, plan: Plan, folder: Path) -> dict[str, Any]:
    """Throughput of good records with and without bad ones; p99 beside each nuisance."""
    return {
        "bad": await _bad(session, plan),
        "nuisances": [await _beside(session, plan, name, made) for name, made in _NUISANCES.items()],
    }


async def _bad(session: Session, plan: Plan) -> dict[str, Any]:
    """Floods without and with bad records in turn, so that a machine that slows down slows both."""
    records = round(plan.hostile_rate * plan.hostile_seconds)
    clean = plan.load(_FLOOD_RATE, records / _FLOOD_RATE)
    dirty = replace(clean, bad=_BAD)
    order: list[Load] = [
        load for turn in range(_PAIRS) for load in ((clean, dirty), (dirty, clean))[turn % 2]
    ]
    rates: dict[float, list[float]] = {0.0: [], _BAD: []}
    problems: dict[str, int] = {}
    for load in order:
        result = report.report(await session.run(load, sample=0))
        rates[load.bad].append(result["records_per_second"])
        problems |= result["problems"]
    # Of as many records one in a hundred is no good: the rate of the good ones may fall by that much besides.
    without, with_bad = (sum(rates[share]) / _PAIRS for share in (0.0, _BAD))
    loss = 1 - with_bad / (without * (1 - _BAD))
    return {"share": _BAD, "without": rates[0.0], "with": rates[_BAD], "loss": loss, "problems": problems}


async def _beside(session: Session, plan: Plan, name: str, made: Nuisance) -> dict[str, Any]:
    load = plan.load(plan.hostile_rate, plan.hostile_seconds)
    before = report.report(await session.run(load, sample=0))
    async with made(session):
        during = report.report(await session.run(load, sample=0))
    after = report.report(await session.run(load, sample=0))
    quiet = (before["latency_ms"]["p99"] + after["latency_ms"]["p99"]) / 2
    return {
        "name": name,
        "p99_ms": [result["latency_ms"]["p99"] for result in (before, during, after)],
        "rise": during["latency_ms"]["p99"] / quiet - 1,
        "problems": before["problems"] | during["problems"] | after["problems"],
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
        before, during, after = entry["p99_ms"]
        found.append(
            Line(
                f"{entry['name']}: rise of the others' p99",
                max(entry["rise"] * 100, 0.0),
                "%",
                10.0,
                at_most=True,
                note=f"p99 {before:,.0f} → {during:,.0f} → {after:,.0f} ms",
            )
        )
    return found
