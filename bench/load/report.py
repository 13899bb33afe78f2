"""What a run says, for machines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bench.load.plan import BAD_KINDS, GOOD, READ
from bench.load.sampling import Usage
from bench.load.session import Ran
from bench.load.tally import NO_ANSWER, Tally, quantile
from cbmdhi.command.v1 import code_pb2

_SHARES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))


class Second(NamedTuple):
    """One second of a run. Latencies in ms are of the operations that were due in it; nan for none."""

    second: int
    due: int
    done: int
    refused: int
    in_flight: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


def report(ran: Ran) -> dict[str, Any]:
    """Rates a second, latencies in ms, CPU in us. `stands`: nothing was lost and no check failed."""
    load, tally, checked = ran.load, ran.tally, ran.checked
    records, reads = load.count(GOOD), load.count(READ)
    refused = tally.refused(GOOD, READ)
    problems = {**checked.failures, **tally.problems}
    done = tally.committed + tally.read
    return {
        "load": {
            "rate": load.rate,
            "seconds": load.seconds,
            "users": load.users,
            "streams": load.streams,
            "patients": load.patients,
            "bytes": load.size,
            "reads": load.reads,
            "bad": load.bad,
            "chart": load.chart,
        },
        "sent": records + reads,
        "committed": tally.committed,
        "read": tally.read,
        "bad": load.count(*BAD_KINDS),
        "refused": refused,
        "breaks": tally.breaks,
        "slowed": dict(tally.slowed),
        "seconds": round(tally.last_seconds, 3),
        "records_per_second": _rate(tally.committed, tally.last_seconds),
        "reads_per_second": _rate(tally.read, tally.last_seconds),
        "latency_ms": latencies(tally.latencies_of(GOOD)),
        "read_latency_ms": latencies(tally.latencies_of(READ)),
        "cpu": cpu(ran.usage, done),
        "memory_mib": {
            name: round(bytes_ / 2**20, 1) for name, bytes_ in ran.usage.samples[-1].rss_bytes.items()
        }
        if ran.usage.samples
        else {},
        "checked": {
            "transactions": checked.transactions,
            "verdicts": checked.verdicts,
            "blobs": checked.blobs,
            "decrypted": checked.decrypted,
        },
        "problems": problems,
        "stands": not problems and not refused and done == records + reads,
    }


def cpu(usage: Usage, done: int) -> dict[str, Any]:
    """CPU of each program for one committed record or read, in us, and how busy the machine was."""
    each = {
        name: round(seconds / done * 1e6, 1)
        for name, seconds in sorted(usage.cpu_seconds.items(), key=lambda item: -item[1])
        if done and seconds
    }
    return {
        "us_per_operation": each,
        "us_per_operation_in_all": round(sum(each.values()), 1),
        "cores_busy": round(usage.cores_busy, 3),
        "machine_busy_share": round(usage.busy_share, 3),
        "others_share": round(usage.others_share(), 3),
    }


def latencies(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and the maximum of seconds, in ms; empty for none."""
    if not values:
        return {}
    ordered = sorted(values)
    return {name: round(quantile(ordered, share) * 1000, 1) for name, share in _SHARES}


def seconds(tally: Tally) -> Iterator[Second]:
    """The run, second by second, until the last answer."""
    load = tally.load
    last = max(math.ceil(tally.last_seconds), math.ceil(load.seconds), 1)
    due, done, refused = [0] * last, [0] * last, [0] * last
    of_due: list[list[float]] = [[] for _ in range(last)]
    for number, (latency, code) in enumerate(zip(tally.latencies, tally.codes, strict=True)):
        at = load.due_seconds(number)
        due[min(int(at), last - 1)] += 1
        if code == NO_ANSWER:
            continue
        answered = min(int(at + latency), last - 1)
        if code == code_pb2.CODE_OK:
            done[answered] += 1
            of_due[min(int(at), last - 1)].append(latency)
        else:
            refused[answered] += 1
    flying = 0
    for second in range(last):
        flying += due[second] - done[second] - refused[second]
        p50, p95, p99 = (quantile(of_due[second], share) * 1000 for share in (0.5, 0.95, 0.99))
        yield Second(second, due[second], done[second], refused[second], flying, p50, p95, p99)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds else 0.0
