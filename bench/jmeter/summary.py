"""What JMeter measured: its JTL (CSV) as a few figures, and the failures by their status."""

from __future__ import annotations

import asyncio
import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from bench import network
from bench.jmeter.check import check
from bench.load.report import latencies


def main(
    jtl: Annotated[Path, typer.Argument(help="JMeter's results as CSV.")],
    bodies: Annotated[
        Path | None, typer.Option(help="The bodies that were sent: then every receipt is checked.")
    ] = None,
    home: network.HomeOption = network.DEFAULT_HOME,
) -> None:
    """Print the figures as JSON. Ends with 1 when a request failed, or a receipt does not stand."""
    with jtl.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    result = summary(rows)
    if bodies is not None:
        answered = [row for row in rows if row["success"] == "true"]
        result |= asyncio.run(check(home, answered, bodies.read_text().splitlines()))
    print(json.dumps(result, indent=2))
    if result["failed"] or not result["requests"] or not result.get("stands", True):
        raise typer.Exit(1)


def summary(rows: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Requests, good ones a second from the first's start to the last's end, times in ms, failures."""
    entries = list(rows)
    starts = [int(row["timeStamp"]) for row in entries]
    took = [int(row["elapsed"]) for row in entries]
    failed = Counter(row["responseCode"] for row in entries if row["success"] != "true")
    ends = [start + ms for start, ms in zip(starts, took, strict=True)]
    span = max(ends, default=0) - min(starts, default=0)
    good = len(entries) - failed.total()
    return {
        "requests": len(entries),
        "per_second": round(1000 * good / span, 1) if span else 0.0,
        "average_ms": round(sum(took) / len(took), 1) if took else 0.0,
        "latency_ms": latencies([ms / 1000 for ms in took]),
        "failed": dict(failed),
    }


if __name__ == "__main__":
    typer.run(main)
