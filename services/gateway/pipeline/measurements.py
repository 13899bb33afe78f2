"""What is counted of the groups that are answered, and of those under way."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.submission import ACCESSES, Answer, Submission
from services.runtime.errors import MeshError


def measured_by(metrics: GatewayMetrics) -> Callable[[Submission, Answer], None]:
    """Counts each command by its code, decisions on accesses, and the time until something was committed."""

    def measure(one: Submission, answer: Answer) -> None:
        if isinstance(answer, MeshError):
            metrics.count(answer.code)
            return
        reached_channel = False
        for parsed, entry in zip(one.commands, answer, strict=False):
            code = entry.receipt.code
            metrics.count(code)
            reached_channel = reached_channel or bool(entry.receipt.tx_id)
            if parsed.name in ACCESSES:
                metrics.count_decision(parsed.name, code)
        if reached_channel:
            metrics.observe(one.kind, perf_counter() - one.since)

    return measure
