"""CSV: a line for each second, for each operation, and of each process's memory. Ids are not in them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from bench.load.report import Second, seconds
from bench.load.sampling import Usage
from bench.load.tally import Tally, name

_MIB = 2**20


def write_seconds(file: Path, tally: Tally) -> None:
    """`second,due,done,refused,in_flight,p50_ms,p95_ms,p99_ms`; latencies of what was due in that second."""
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(Second._fields)
        for entry in seconds(tally):
            writer.writerow(["" if _absent(value) else _rounded(value) for value in entry])


def write_records(file: Path, tally: Tally) -> None:
    """`due_seconds,kind,latency_ms,code`, in the order in which they were due."""
    load = tally.load
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("due_seconds", "kind", "latency_ms", "code"))
        for number, (latency, code) in enumerate(zip(tally.latencies, tally.codes, strict=True)):
            took = "" if math.isnan(latency) else f"{latency * 1000:.2f}"
            writer.writerow((f"{load.due_seconds(number):.4f}", load.kind(number), took, name(code)))


def write_memory(file: Path, usage: Usage) -> None:
    """`seconds,program…`: resident MiB of each program at each sample; empty where it was not there."""
    names = sorted({name for sample in usage.samples for name in sample.rss_bytes})
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("seconds", *names))
        for sample in usage.samples:
            found = (sample.rss_bytes.get(name) for name in names)
            resident = ("" if value is None else round(value / _MIB, 1) for value in found)
            writer.writerow((round(sample.at, 1), *resident))


def _absent(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _rounded(value: float) -> float:
    return round(value, 2) if isinstance(value, float) else value
