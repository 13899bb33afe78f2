"""`make bench-soak`: ten minutes at the bar's rate. Memory may grow in the first minute, and not after it.

Buffers of a fixed size that fill for longer than that look like growth too: each Kubo's three memory tables
of 64 MiB take 150 s at 1,000/s. `--warm-seconds` runs the network at the rate before, to tell these from a
leak; the bar is without it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import headline, idle_network, network, progress, results_files
from bench.headline import Plan
from bench.load import outputs, plots, report
from bench.load.sampling import GENERATOR, PREPARING, Usage, grown_bytes_per_minute
from bench.load.session import Ran, Session

_MIB = 2**20
# Less than that in ten minutes is the noise of allocators and garbage collectors: 1 % a minute, or 1 MiB.
_SHARE_A_MINUTE, _LEAST_MIB_A_MINUTE = 0.01, 1.0
_FIRST_SECONDS = 60.0


def main(
    rate: Annotated[float, typer.Option(min=1, help="Records a second.")] = 1_000.0,
    seconds: Annotated[float, typer.Option(min=5, help="How long.")] = 600.0,
    warm_seconds: Annotated[
        float, typer.Option(min=0, help="How long before it, to tell filling buffers from a leak.")
    ] = 0.0,
    patients: Annotated[int, typer.Option(min=2, max=5000, help="Whom the records are about.")] = 5_000,
    streams: Annotated[int, typer.Option(min=1, max=64, help="gRPC streams that carry the records.")] = 1,
    home: network.HomeOption = network.DEFAULT_HOME,
    results: Annotated[Path, typer.Option(help="Where figures and values go.")] = results_files.RESULTS,
) -> None:
    """Hold the rate, verify every receipt, fit a line to each process's memory; 1 when one grows."""
    plan = replace(Plan(), patients=patients, streams=streams)
    with network.running(home):
        ran = asyncio.run(_soak(plan, rate, seconds, warm_seconds, home))
    first = min(_FIRST_SECONDS, seconds / 5)
    growth = {name: fit(ran.usage, name, first) for name in _names(ran.usage)}
    measured = {"memory_growth": growth, "after_seconds": first, "warm_seconds": warm_seconds}
    result = {**report.report(ran), **measured}
    results_files.write(results, "soak", [result])
    plots.memory(
        results / "soak-memory.png",
        ran.load.title(),
        [(sample.at, sample.rss_bytes) for sample in ran.usage.samples],
        "Memory of each process over a long run",
    )
    outputs.write_seconds(results / "soak-seconds.csv", ran.tally)
    outputs.write_memory(results / "soak-memory.csv", ran.usage)
    growing = [name for name, fitted in growth.items() if fitted["grows"]]
    for name, fitted in growth.items():
        sign = "grows" if fitted["grows"] else ""
        at_end = fitted["at_end_mib"]
        typer.echo(f"{name:<24} {at_end:8.0f} MiB {fitted['mib_per_minute']:+8.2f} MiB a minute {sign}")
    kept_up = result["latency_ms"].get("p95", float("inf")) <= headline.P95_BAR_MS
    stands = "every receipt stands" if result["stands"] else "not everything stands"
    typer.echo(f"p95 {result['latency_ms'].get('p95')} ms; {stands}")
    if growing or not result["stands"] or not kept_up:
        raise typer.Exit(1)


async def _soak(plan: Plan, rate: float, seconds: float, warm_seconds: float, home: Path) -> Ran:
    people = plan.load(rate, 1.0)
    async with Session(home, people, progress.spoken(people)) as session:
        if warm_seconds:
            typer.echo(f"{warm_seconds:.0f} s at the rate, not counted", err=True)
            await session.run(plan.load(rate, warm_seconds), 0)
        await idle_network.settled(home)
        return await session.run(plan.load(rate, seconds), plan.sample)


def fit(usage: Usage, program: str, after_seconds: float) -> dict[str, Any]:
    """The line through a program's memory after the first minute, and whether it is one of growth."""
    there = [sample for sample in usage.samples if program in sample.rss_bytes]
    points = [(sample.at, float(sample.rss_bytes[program])) for sample in there]
    slope, at_end = grown_bytes_per_minute(points, after_seconds) / _MIB, points[-1][1] / _MIB
    allowed = max(_SHARE_A_MINUTE * at_end, _LEAST_MIB_A_MINUTE)
    return {"mib_per_minute": round(slope, 3), "at_end_mib": round(at_end, 1), "grows": slope > allowed}


def _names(usage: Usage) -> list[str]:
    """The network's programs: the generator keeps what it will check."""
    return [name for name in usage.samples[-1].rss_bytes if name not in (GENERATOR, PREPARING)]


if __name__ == "__main__":
    typer.run(main)
