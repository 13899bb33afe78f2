"""CSV: a line for each second, and one for each operation. Ids are not in them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from cbmdhi.hammer.report import Second, seconds
from cbmdhi.hammer.tally import Tally, name


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


def _absent(value: float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _rounded(value: float) -> float:
    return round(value, 2) if isinstance(value, float) else value
