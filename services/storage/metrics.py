"""What storage counts."""

from __future__ import annotations

from services.runtime.telemetry import Metrics


class StorageMetrics:
    """Series of storage. Labels come from the closed lists named here."""

    def __init__(self, metrics: Metrics) -> None:
        self.sealed = metrics.counter("records_sealed", "Record versions sealed and stored")
        self.refused = metrics.counter(
            "items_refused", "Items of a batch that were not sealed, by code", ("code",)
        )
        self.seal_duration = metrics.histogram(
            "seal_duration", "seconds", "Time to seal and replicate a batch"
        )
        self.replicas_confirmed = metrics.counter("replicas_confirmed", "Signed receipts of other members")
        self.replicas_failed = metrics.counter("replicas_failed", "Pushes that gave no valid receipt")
        self.replicated = metrics.counter("replicas_held", "Batches imported for other members")
        self.key_releases = metrics.counter(
            "key_releases",
            "Data keys asked for here; outcome: released, refused, failed",
            ("outcome",),
        )
        self.repaired = metrics.counter("blobs_repaired", "Blocks put back into the own Kubo node")
        self.integrity_failures = metrics.counter(
            "integrity_failures",
            "Bytes that did not match; what: import, own-block, member-block, receipt, envelope, sealed-key",
            ("what",),
        )
        self.unpins_due = metrics.gauge("unpins_due", "count", "Roots still to be let go somewhere")
        self.swarm_peers = metrics.gauge("swarm_peers", "count", "Connected nodes of the private swarm")
        self.repository_bytes = metrics.gauge("repository", "bytes", "Size of the own Kubo repository")
