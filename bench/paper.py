"""`make paper`: the paper's two figures, throughput and response time against concurrent users.

As the paper's JMeter did, each user sends a record and waits for the answer before the next (a closed loop).
All users share one engine's stream; each record is signed by its author, committed by both members and
replicated before its user goes on.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import network, progress, results_files
from bench.headline import Plan
from bench.load import plots, report
from bench.load.prepared_queue import Stock
from bench.load.sampling import Watch
from bench.load.session import Session
from bench.load.tally import Tally
from bench.users import Users

CLAIMED_PER_SECOND, CLAIMED_MS = 900, 1_000
_HIGHEST_RATE = 2_500.0
_USERS = "100,200,300,400,500,600,700,800,900,1000"


def main(
    users: Annotated[str, typer.Option(help="Concurrent users to try.")] = _USERS,
    seconds: Annotated[float, typer.Option(min=1, help="How long with each number of users.")] = 15.0,
    patients: Annotated[int, typer.Option(min=2, max=5000, help="Whom the records are about.")] = 1_000,
    sample: Annotated[int, typer.Option(min=0, help="Records decrypted after each.")] = 100,
    home: network.HomeOption = network.DEFAULT_HOME,
    results: Annotated[Path, typer.Option(help="Where figures and values go.")] = results_files.RESULTS,
) -> None:
    """Measure, verify, and draw both figures beside the paper's claim."""
    counts = [int(count) for count in users.split(",")]
    with network.running(home):
        points = asyncio.run(_measure(counts, seconds, patients, sample, home))
    document = results_files.write(results, "figures", points)
    cores = document["machine"]["cores"]
    draw(points, results, f"1 kB records, {patients:,} patients, {cores} cores for everything")
    for point in points:
        typer.echo(
            f"{point['users']:>5} users: {point['records_per_second']:7,.0f}/s, "
            f"average {point['average_ms']:6,.0f} ms, p95 {point['latency_ms']['p95']:6,.0f} ms"
        )
    problems = {problem for point in points for problem in point["problems"]}
    for problem in sorted(problems):
        typer.echo(f"not verified: {problem}")
    if problems:
        raise typer.Exit(1)


async def _measure(
    counts: list[int], seconds: float, patients: int, sample: int, home: Path
) -> list[dict[str, Any]]:
    plan = replace(Plan(), patients=patients)
    points: list[dict[str, Any]] = []
    people = plan.load(1.0, 1.0)
    async with Session(home, people, progress.spoken(people, stages=False)) as session:
        for count in counts:
            print(f"{count} users", file=sys.stderr, flush=True)
            points.append(await _point(session, plan, count, seconds, sample))
    return points


async def _point(session: Session, plan: Plan, count: int, seconds: float, sample: int) -> dict[str, Any]:
    load = plan.load(_HIGHEST_RATE, seconds)
    async with Stock(session.recipe(load), load.operations, 1) as stock:
        await stock.fill()
        tally = Tally(load)
        users = Users(count, iter(stock.feeds[0].items), tally)
        watch = Watch(session.home)
        async with watch.over() as usage:
            await users.run(session.cast.carriers[0], seconds)
    checked = await session.check(tally, sample)
    latencies = users.latencies
    return {
        "users": count,
        "records": len(tally.stands),
        "seconds": round(users.seconds, 2),
        "records_per_second": round(len(tally.stands) / users.seconds, 1),
        "average_ms": round(1000 * sum(latencies) / max(len(latencies), 1), 1),
        "latency_ms": report.latencies(latencies),
        "refused": {code: times for code, times in users.refused.items() if times},
        "cpu": report.cpu(usage, len(tally.stands)),
        "problems": dict(checked.failures),
    }


def draw(points: list[dict[str, Any]], folder: Path, subtitle: str) -> None:
    """Figures 5 and 6 of the paper, with ours."""
    at = [point["users"] for point in points]
    title = "Throughput against concurrent users"
    with plots.figure(folder / "figure-5-throughput.png", title, subtitle) as axes:
        label = "the paper's average, 900/s"
        axes.axhline(CLAIMED_PER_SECOND, color=plots.GREY, linestyle=(0, (5, 3)), label=label)
        rates = [point["records_per_second"] for point in points]
        axes.plot(at, rates, color=plots.BLUE, marker="o", linewidth=2, label="measured here")
        axes.set_ylim(0, max(CLAIMED_PER_SECOND, *rates) * 1.2)
        axes.set_xlabel("concurrent users, each waiting for its receipt")
        axes.set_ylabel("records committed a second")
    title = "Response time against concurrent users"
    with plots.figure(folder / "figure-6-response-time.png", title, subtitle) as axes:
        axes.axhline(
            CLAIMED_MS, color=plots.GREY, linestyle=(0, (5, 3)), label="the paper's claim, within 1 s"
        )
        average = [point["average_ms"] for point in points]
        p95 = [point["latency_ms"]["p95"] for point in points]
        axes.plot(at, average, color=plots.BLUE, marker="o", linewidth=2, label="average, measured here")
        axes.plot(at, p95, color=plots.ORANGE, marker="o", linewidth=1.5, label="p95, measured here")
        axes.set_ylim(0, max(CLAIMED_MS, *p95) * 1.2)
        axes.set_xlabel("concurrent users, each waiting for its receipt")
        axes.set_ylabel("milliseconds from sending to receipt")


if __name__ == "__main__":
    typer.run(main)
