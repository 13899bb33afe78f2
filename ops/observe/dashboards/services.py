"""One for each service."""

from __future__ import annotations

from ops.observe.dashboards import parts
from ops.observe.panels import panel, quantile, rate

GATEWAY = parts.service(
    "gateway",
    panel(
        "Commands answered, by code",
        "reqps",
        rate(f"{parts.GATEWAY}_submissions_total", "code"),
        legend=parts.BY + "{{code}}",
    ),
    panel(
        "Time in a stage, p95",
        "s",
        quantile(0.95, f"{parts.GATEWAY}_stage_seconds", "stage"),
        legend=parts.BY + "{{stage}}",
    ),
    panel("Groups taken and not answered", "short", f"{parts.GATEWAY}_submissions_in_flight_count"),
    panel("Their size", "bytes", f"{parts.GATEWAY}_submissions_in_flight_bytes"),
    parts.dependencies("gateway"),
    *parts.queues("gateway"),
    panel(
        "REST and FHIR interactions",
        "reqps",
        rate(f"{parts.GATEWAY}_rest_requests_total", "route", "code"),
        legend=parts.BY + "{{route}} {{code}}",
    ),
    panel(
        "REST and FHIR duration, p95",
        "s",
        quantile(0.95, f"{parts.GATEWAY}_rest_seconds", "route"),
        legend=parts.BY + "{{route}}",
    ),
    panel("Ingest streams", "short", f"{parts.GATEWAY}_ingest_streams_count"),
    panel(
        "Streams not read for a while",
        "reqps",
        rate(f"{parts.GATEWAY}_ingest_pauses_total", "what"),
        legend=parts.BY + "{{what}}",
    ),
    panel("Groups answered from before", "reqps", rate(f"{parts.GATEWAY}_replays_total")),
    panel(
        "Optional dependencies away",
        "bool",
        f"{parts.GATEWAY}_degraded_count",
        legend=parts.BY + "{{dependency}}",
    ),
)

LEDGER = parts.service(
    "ledger",
    panel("Verdicts", "reqps", rate(f"{parts.LEDGER}_verdicts_total", "code"), legend=parts.BY + "{{code}}"),
    panel(
        "Endorse, submit, commit: p95",
        "s",
        quantile(0.95, f"{parts.LEDGER}_step_duration_seconds", "step"),
        legend=parts.BY + "{{step}}",
    ),
    panel(
        "Steps that failed",
        "reqps",
        rate(f"{parts.LEDGER}_step_failures_total", "step"),
        legend=parts.BY + "{{step}}",
    ),
    panel("Bytes of a batch, p95", "bytes", quantile(0.95, f"{parts.LEDGER}_batch_size_bytes")),
    panel("Conflicts (MVCC)", "reqps", rate(f"{parts.LEDGER}_conflicts_total")),
    panel("Fate not learned", "reqps", rate(f"{parts.LEDGER}_unknown_outcomes_total")),
    panel("Writer keys that wait for a custodian", "short", f"{parts.LEDGER}_late_keys_items"),
    panel(
        "Projection behind the peer",
        "short",
        f"{parts.LEDGER}_peer_height_blocks - {parts.LEDGER}_projected_height_blocks",
    ),
    panel("Blocks not published", "short", f"{parts.LEDGER}_publication_lag_blocks"),
    *parts.queues("ledger"),
)

STORAGE = parts.service(
    "storage",
    panel("Records sealed", "reqps", rate(f"{parts.STORAGE}_records_sealed_total")),
    panel(
        "Items refused",
        "reqps",
        rate(f"{parts.STORAGE}_items_refused_total", "code"),
        legend=parts.BY + "{{code}}",
        rests="only when storage refuses an item",
    ),
    panel("Sealing a batch, p95", "s", quantile(0.95, f"{parts.STORAGE}_seal_duration_seconds")),
    panel("Replicas confirmed", "reqps", rate(f"{parts.STORAGE}_replicas_confirmed_total")),
    panel("Replicas failed", "reqps", rate(f"{parts.STORAGE}_replicas_failed_total")),
    panel(
        "Batches refused: their member has too much open here",
        "reqps",
        rate(f"{parts.STORAGE}_replicas_over_quota_total"),
    ),
    panel("Most that is open here of another member", "bytes", f"{parts.STORAGE}_leased_to_member_bytes"),
    panel("Batches held for others", "reqps", rate(f"{parts.STORAGE}_replicas_held_total")),
    panel("Blocks repaired", "reqps", rate(f"{parts.STORAGE}_blobs_repaired_total")),
    panel(
        "Blocks checked against the ledger's CID",
        "reqps",
        rate(f"{parts.STORAGE}_blobs_checked_total", "holder", "outcome"),
        legend=parts.BY + "{{holder}} {{outcome}}",
    ),
    panel(
        "Keys released",
        "reqps",
        rate(f"{parts.STORAGE}_key_releases_total", "outcome"),
        legend=parts.BY + "{{outcome}}",
    ),
    panel("Batches whose fate is open", "short", f"{parts.STORAGE}_leases_open_count"),
    panel("Open past its end, the oldest", "s", f"{parts.STORAGE}_lease_overdue_seconds"),
    panel(
        "Batches settled",
        "reqps",
        rate(f"{parts.STORAGE}_leases_settled_total", "outcome"),
        legend=parts.BY + "{{outcome}}",
    ),
    panel(
        "Records asked for again, not sealed twice", "reqps", rate(f"{parts.STORAGE}_records_reused_total")
    ),
    panel("Unpinned blocks on the disk", "short", f"{parts.STORAGE}_blocks_waiting_count"),
    panel("Blocks collected", "reqps", rate(f"{parts.STORAGE}_blocks_collected_total")),
    panel(
        "Collection of a portion, p95",
        "s",
        quantile(0.95, f"{parts.STORAGE}_collection_duration_seconds"),
        rests="only when something was let go",
    ),
    parts.dependencies("storage"),
    *parts.queues("storage"),
)

IDENTITY = parts.service(
    "identity",
    parts.dependencies("identity"),
    panel("Fabric CA answers", "bool", f"{parts.IDENTITY}_fabric_ca_up_bool"),
    panel(
        "Calls to the Fabric CA",
        "reqps",
        rate(f"{parts.IDENTITY}_fabric_ca_duration_seconds_count", "call", "outcome"),
        legend=parts.BY + "{{call}} {{outcome}}",
    ),
    panel(
        "Fabric CA duration, p95",
        "s",
        quantile(0.95, f"{parts.IDENTITY}_fabric_ca_duration_seconds", "call"),
        legend=parts.BY + "{{call}}",
    ),
)

NOTIFY = parts.service(
    "notify",
    panel(
        "Events handled",
        "reqps",
        rate(f"{parts.NOTIFY}_events_consumed_total", "outcome"),
        legend=parts.BY + "{{outcome}}",
    ),
    panel("Age of an event when handled, p95", "s", quantile(0.95, f"{parts.NOTIFY}_events_age_seconds")),
    panel("Handling, p95", "s", quantile(0.95, f"{parts.NOTIFY}_events_handling_seconds")),
    panel("Events that wait", "short", f"{parts.NOTIFY}_events_lag_count"),
    panel(
        "Notifications",
        "reqps",
        rate(f"{parts.NOTIFY}_notifications_total", "kind"),
        legend=parts.BY + "{{kind}}",
    ),
    panel("Open streams", "short", f"{parts.NOTIFY}_streams_open_count"),
)
