"""The objectives (docs/slo.md), and from them the rules of deploy/prometheus/rules/slo.yml."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RULES = Path("deploy/prometheus/rules/slo.yml")

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Google's SRE workbook, chapter 5: how many times too fast, over which two windows, and whom it wakes.
# The short window ends the alert soon after the fault does.
BURNS = (
    ("page", ((14.4, "1h", "5m"), (6.0, "6h", "30m"))),
    ("ticket", ((3.0, "1d", "2h"), (1.0, "3d", "6h"))),
)

_READS = 'method=~"/cbmdhi.gateway.v1.RecordService/Read(Many)?"'
# Answers that are the mesh's fault. A refusal is none, nor is telling a sender to slow down.
FAULTS = "UNSPECIFIED|UNAVAILABLE|DEADLINE_EXCEEDED|UNKNOWN_OUTCOME|ENDORSEMENT_FAILED|INTEGRITY|INTERNAL"
_ANSWERS = '__name__=~"cbmdhi_gateway_(submissions|rpc_requests|rest_requests)_total",method!~"/grpc.*"'


@dataclass(frozen=True)
class Objective:
    """A share of good among all, for each member, over 30 days.

    name         of the recording rules
    alert        of its alerts
    good, total  selectors of counters
    says         what is good
    """

    name: str
    alert: str
    target: float
    good: str
    total: str
    says: str

    @property
    def budget(self) -> float:
        """The share that may be bad."""
        return round(1 - self.target, 6)

    def recorded(self, window: str) -> str:
        """Name of the recorded share of bad ones over a window."""
        return f"cbmdhi:{self.name}_errors:ratio_rate{window}"

    def expression(self, window: str) -> str:
        """The share of bad ones over a window."""
        good, total = (f"sum by (organisation) (rate({one}[{window}]))" for one in (self.good, self.total))
        return f"1 - ({good} or 0 * {total}) / ({total} > 0)"


OBJECTIVES = (
    Objective(
        "write_latency",
        "WriteLatencyBudgetBurn",
        0.95,
        'cbmdhi_gateway_submission_seconds_bucket{kind="records",le="1.0"}',
        'cbmdhi_gateway_submission_seconds_count{kind="records"}',
        "records have their receipts within 1 s of arriving at the gateway",
    ),
    Objective(
        "read_latency",
        "ReadLatencyBudgetBurn",
        0.95,
        f'cbmdhi_gateway_rpc_duration_seconds_bucket{{{_READS},le="1.0"}}',
        f"cbmdhi_gateway_rpc_duration_seconds_count{{{_READS}}}",
        "reads, alone or in charts, are answered within 1 s",
    ),
    Objective(
        "availability",
        "AvailabilityBudgetBurn",
        0.999,
        f'{{{_ANSWERS},code!~"{FAULTS}"}}',
        f"{{{_ANSWERS}}}",
        "answers of the gateway (a command's verdict, an RPC, a REST request) are no fault of the mesh",
    ),
    Objective(
        "event_lag",
        "EventLagBudgetBurn",
        0.99,
        'cbmdhi_notify_events_age_seconds_bucket{le="5.0"}',
        "cbmdhi_notify_events_age_seconds_count",
        "events are in the inboxes within 5 s of their transaction",
    ),
)


def rules() -> str:
    """The rule file, as YAML."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Made from ops/observe/slo.py by `make observe-docs`: change it there."
    yield "groups:"
    for one in OBJECTIVES:
        yield f"  - name: cbmdhi-slo-{one.name.replace('_', '-')}"
        yield "    rules:"
        for window in WINDOWS:
            yield f"      - record: {one.recorded(window)}"
            yield f"        expr: >-\n          {one.expression(window)}"
        for severity, burns in BURNS:
            yield f"      - alert: {one.alert}"
            yield f"        expr: >-\n          {_either(one, burns)}"
            yield f"        labels: {{severity: {severity}}}"
            yield "        annotations:"
            yield f"          summary: '{{{{ $labels.organisation }}}} spends its {one.name} budget too fast'"
            yield f"          runbook: docs/runbooks/{one.alert}.md"


def _either(one: Objective, burns: tuple[tuple[float, str, str], ...]) -> str:
    return " or ".join(
        f"({one.recorded(long)} > {factor:g} * {one.budget:g} and "
        f"{one.recorded(short)} > {factor:g} * {one.budget:g})"
        for factor, long, short in burns
    )
