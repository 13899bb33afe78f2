"""Security and privacy."""

from __future__ import annotations

from ops.observe.dashboards import parts
from ops.observe.panels import Dashboard, panel, rate

SECURITY = Dashboard(
    "security",
    "Security and privacy",
    (
        panel(
            "Accesses decided",
            "reqps",
            rate(f"{parts.GATEWAY}_access_decisions_total", "kind", "code"),
            legend=parts.BY + "{{kind}} {{code}}",
        ),
        panel(
            "Glass broken",
            "short",
            "sum by (organisation) "
            f'(increase({parts.GATEWAY}_access_decisions_total{{kind="break_glass"}}[1h]))',
        ),
        panel(
            "Versions told to break the glass",
            "short",
            f"sum by (organisation) (increase({parts.GATEWAY}_latest_versions_for_break_glass_total[1h]))",
        ),
        panel(
            "Opened without a majority, not on record yet",
            "short",
            f"max by (organisation) ({parts.STORAGE}_emergencies_unrecorded_count)",
        ),
        panel(
            "Records asked for without a majority",
            "short",
            f"sum by (organisation, outcome) (increase({parts.STORAGE}_emergencies_total[1h]))",
            legend=parts.BY + "{{outcome}}",
        ),
        panel(
            "Keys released",
            "reqps",
            rate(f"{parts.STORAGE}_key_releases_total", "outcome"),
            legend=parts.BY + "{{outcome}}",
        ),
        panel(
            "Callers not admitted",
            "reqps",
            rate(f"{parts.GATEWAY}_not_admitted_total", "code"),
            legend=parts.BY + "{{code}}",
        ),
        panel(
            "Commands with bad signatures or unknown signers",
            "reqps",
            rate(f'{parts.GATEWAY}_submissions_total{{code=~"BAD_SIGNATURE|UNKNOWN_SIGNER"}}', "code"),
            legend=parts.BY + "{{code}}",
        ),
        panel(
            "Bytes that did not match",
            "reqps",
            rate(f"{parts.STORAGE}_integrity_failures_total", "what"),
            legend=parts.BY + "{{what}}",
        ),
        panel(
            "Blocks checked against the ledger's CID",
            "reqps",
            rate(f"{parts.STORAGE}_blobs_checked_total", "outcome"),
            legend=parts.BY + "{{outcome}}",
        ),
        panel(
            "Days to a certificate's end",
            "d",
            '({__name__=~"cbmdhi_[a-z]+_certificate_expiry_timestamp_seconds"} - time()) / 86400',
            legend=parts.BY + "{{service}} {{certificate}}",
        ),
        panel(
            "Enrolments by the CA",
            "reqps",
            rate(f"{parts.IDENTITY}_fabric_ca_duration_seconds_count", "call"),
            legend=parts.BY + "{{call}}",
        ),
    ),
)
