"""`make bench-growth`: to a million records, and what a record costs on the way there.

In steps that can be interrupted: what was measured lies beside the network, and the next call goes on from
there. After each step the CPU of each process for a record and the disk of each part; every so often the time
to start again.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import idle_network, machine_speed, network, progress, results_files
from bench.headline import Plan
from bench.load import plots, report
from bench.load.session import Session
from ops.devnet import Network

_MIB = 2**20
_BASE_RECORDS = 10_000
_ALLOWED_RISE = 1.5
_LOOKS = 3
_PARTS = {
    "peers": "orgs/*/peer",
    "orderer": "orgs/*/orderer",
    "Kubo": "orgs/*/ipfs",
    "ledger projections": "orgs/*/services/ledger",
    "notify": "orgs/*/services/notify",
    "NATS": "orgs/*/nats",
}


def main(
    records: Annotated[int, typer.Option(min=1000, help="Go on until there are so many.")] = 1_000_000,
    step: Annotated[int, typer.Option(min=500, help="Records between two looks.")] = 20_000,
    rate: Annotated[float, typer.Option(min=1, help="Records a second.")] = 1_000.0,
    restart_every: Annotated[int, typer.Option(min=1, help="Looks between two restarts.")] = 5,
    patients: Annotated[int, typer.Option(min=2, max=5000, help="Whom the records are about.")] = 5_000,
    home: network.HomeOption = network.DEFAULT_HOME,
    results: Annotated[Path, typer.Option(help="Where figures and values go.")] = results_files.RESULTS,
) -> None:
    """Grow the channel, verify each step, draw cost, disk and start-up time against the number of records."""
    file = home / "growth.jsonl"
    plan = replace(Plan(), patients=patients)
    with network.running(home) as running:
        points = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        while (there := points[-1]["records"] if points else 0) < records:
            restarted = _restart(running) if len(points) % restart_every == 0 and points else None
            point = asyncio.run(_step(home, plan, min(step, records - there), rate))
            points.append({"records": there + point["committed"], "start_seconds": restarted, **point})
            with file.open("a") as opened:
                opened.write(json.dumps(points[-1]) + "\n")
            typer.echo(_told(points[-1]))
            if not point["stands"]:
                typer.echo(f"not everything stands: {point['problems'] or point['refused']}")
                raise typer.Exit(1)
    results_files.write(results, "growth", points)
    draw(points, results)
    rise = cost_rise(points)
    typer.echo(f"a record costs {rise:.2f} times what it cost at {_BASE_RECORDS:,}")
    if rise > _ALLOWED_RISE:
        raise typer.Exit(1)


async def _step(home: Path, plan: Plan, records: int, rate: float) -> dict[str, Any]:
    load = plan.load(rate, records / rate)
    async with Session(home, load, progress.spoken(load, stages=False)) as session:
        await idle_network.settled(home)
        pace_ms = machine_speed.milliseconds()
        result = report.report(await session.run(load, 50))
    return {**result, "disk_mib": disk(home), "pace_ms": pace_ms}


def _restart(running: Network) -> float:
    """Seconds from nothing running to every service ready."""
    running.down()
    return round(running.up().seconds, 2)


def disk(home: Path) -> dict[str, float]:
    """MiB of each part of the network, over all organisations."""
    return {
        part: round(sum(_bytes_of(folder) for folder in home.glob(pattern)) / _MIB, 1)
        for part, pattern in _PARTS.items()
    }


def _bytes_of(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            path = Path(root) / name
            # Databases remove files while they are being looked at.
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total


def cost_rise(points: list[dict[str, Any]]) -> float:
    """CPU of a record at the end as a multiple of that from ten thousand records on.

    Medians of three looks: the machine swings from one to the next.
    """
    from_base = [point for point in points if point["records"] >= _BASE_RECORDS] or points
    base, last = _median_us(from_base[:_LOOKS]), _median_us(points[-_LOOKS:])
    return last / base if base else 1.0


def _median_us(points: list[dict[str, Any]]) -> float:
    return statistics.median(point["cpu"]["us_per_operation_in_all"] for point in points)


def draw(points: list[dict[str, Any]], folder: Path) -> None:
    """Cost, disk and start-up time against the number of records on the channel."""
    at = [point["records"] / 1000 for point in points]
    subtitle = f"{points[-1]['records']:,} records of 1 kB at {points[-1]['load']['rate']:,.0f}/s"
    with plots.figure(
        folder / "growth-cost.png", "What a record costs as the channel grows", subtitle
    ) as axes:
        whole = [point["cpu"]["us_per_operation_in_all"] for point in points]
        axes.plot(at, whole, color=plots.INK, linewidth=2, label="all processes")
        names = list(points[-1]["cpu"]["us_per_operation"])[:5]
        for name, colour in zip(names, plots.COLOURS, strict=False):
            values = [point["cpu"]["us_per_operation"].get(name, 0.0) for point in points]
            axes.plot(at, values, color=colour, linewidth=1.4, label=name)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("thousand records on the channel")
        axes.set_ylabel("CPU for a record, µs")
    with plots.figure(folder / "growth-disk.png", "Disk of both members together", subtitle) as axes:
        for part, colour in zip(_PARTS, plots.COLOURS, strict=False):
            axes.plot(
                at, [point["disk_mib"][part] for point in points], color=colour, linewidth=1.6, label=part
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("thousand records on the channel")
        axes.set_ylabel("MiB")
    restarted = [point for point in points if point["start_seconds"]]
    with plots.figure(folder / "growth-start.png", "Time to start the whole network again", subtitle) as axes:
        took = [point["start_seconds"] for point in restarted]
        axes.plot([point["records"] / 1000 for point in restarted], took, color=plots.BLUE, marker="o")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("thousand records on the channel")
        axes.set_ylabel("seconds until every service is ready")


def _told(point: dict[str, Any]) -> str:
    return (
        f"{point['records']:>9,} records: {point['cpu']['us_per_operation_in_all']:,.0f} µs each, "
        f"p95 {point['latency_ms'].get('p95', float('nan')):,.0f} ms, "
        f"{sum(point['disk_mib'].values()):,.0f} MiB on disk; the machine's loop {point['pace_ms']:,.0f} ms"
    )


if __name__ == "__main__":
    typer.run(main)
