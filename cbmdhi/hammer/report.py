"""What a run says, for machines and people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cbmdhi.hammer.check import Checked
from cbmdhi.hammer.plan import Load
from cbmdhi.hammer.run import Outcome


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); nan for none."""
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else math.nan


def report(load: Load, outcome: Outcome, checked: Checked) -> dict[str, Any]:
    """Rates in records a second, latencies in milliseconds. `stands` is false when any check failed."""
    latencies = {
        name: round(quantile(outcome.latencies, share) * 1000, 1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
        if outcome.latencies
    }
    return {
        "load": {"rate": load.rate, "seconds": load.seconds, "users": load.users, "bytes": load.size},
        "sent": load.records,
        "committed": outcome.committed,
        "refused": outcome.refused,
        "seconds": round(outcome.seconds, 3),
        "records_per_second": round(outcome.committed / outcome.seconds, 1) if outcome.seconds else 0.0,
        "latency_ms": latencies,
        "generator_cpu_share": round(outcome.generator_cpu_seconds / outcome.seconds, 3)
        if outcome.seconds
        else 0.0,
        "checked": {
            "transactions": checked.transactions,
            "blobs": checked.blobs,
            "decrypted": checked.decrypted,
            "failures": checked.failures,
        },
        "stands": not checked.failures and outcome.committed == load.records,
    }
