"""The consortium at a glance."""

from __future__ import annotations

from ops.observe.dashboards import parts
from ops.observe.panels import Dashboard, Query, panel, quantile, rate

OVERVIEW = Dashboard(
    "overview",
    "Consortium: throughput, latency, verdicts",
    (
        panel(
            "Records committed",
            "reqps",
            rate(f'{parts.GATEWAY}_submission_seconds_count{{kind="records"}}'),
        ),
        panel(
            "Accesses decided",
            "reqps",
            rate(f"{parts.GATEWAY}_access_decisions_total", "kind", "code"),
            legend=parts.BY + "{{kind}} {{code}}",
        ),
        panel(
            "From arrival to receipt, p50 and p95",
            "s",
            Query(quantile(0.5, f"{parts.GATEWAY}_submission_seconds", "kind"), parts.BY + "{{kind}} p50"),
            Query(quantile(0.95, f"{parts.GATEWAY}_submission_seconds", "kind"), parts.BY + "{{kind}} p95"),
        ),
        panel(
            "Verdicts", "reqps", rate(f"{parts.LEDGER}_verdicts_total", "code"), legend=parts.BY + "{{code}}"
        ),
        panel(
            "Steps of a transaction, p95",
            "s",
            quantile(0.95, f"{parts.LEDGER}_step_duration_seconds", "step"),
            legend=parts.BY + "{{step}}",
        ),
        panel("Blocks", "short", 'ledger_blockchain_height{job="fabric-peer"}'),
        panel(
            "Transactions a second",
            "reqps",
            rate("ledger_transaction_count", "validation_code"),
            legend=parts.BY + "{{validation_code}}",
        ),
        panel("Batches colliding", "reqps", rate(f"{parts.LEDGER}_conflicts_total")),
        panel(
            "Programs that answer", "short", "sum by (job, organisation) (up)", legend=parts.BY + "{{job}}"
        ),
        panel("Event age, p95", "s", quantile(0.95, f"{parts.NOTIFY}_events_age_seconds")),
    ),
)
