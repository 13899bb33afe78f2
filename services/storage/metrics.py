"""The metrics of the storage service."""

from __future__ import annotations

from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics

_OUTCOMES = ("committed", "partly", "released")
_EMERGENCIES = ("opened", "refused", "failed")
_COMPARED = ("import", "own-block", "member-block", "receipt", "envelope", "sealed-key")


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
        self.over_quota = metrics.counter(
            "replicas_over_quota",
            "Batches that were not taken: their member has too much open here",
        )
        self.leased_to_member = metrics.gauge(
            "leased_to_member",
            "bytes",
            "Pinned for the other member that has the most here of which the fate is open",
        )
        self.key_releases = metrics.counter(
            "key_releases",
            "Data keys asked for here; outcome: released, refused, failed",
            ("outcome",),
        )
        self.emergencies = metrics.counter(
            "emergencies",
            f"Records asked for without a majority; outcome: {', '.join(_EMERGENCIES)}",
            ("outcome",),
        )
        for outcome in _EMERGENCIES:
            self.emergencies.labels(outcome)
        self.emergencies_unrecorded = metrics.gauge(
            "emergencies_unrecorded",
            "count",
            "Records opened without a majority that are not on the channel yet",
        )
        self.emergency_unrecorded = metrics.gauge(
            "emergency_unrecorded",
            "seconds",
            "Since when the oldest of them was opened; 0 when there is none",
        )
        self.repaired = metrics.counter("blobs_repaired", "Blocks put back into the own Kubo node")
        self.integrity_failures = metrics.counter(
            "integrity_failures",
            f"Bytes that did not match; what: {', '.join(_COMPARED)}",
            ("what",),
        )
        self._checked = metrics.counter(
            "blobs_checked",
            "Blocks compared with the CID that the ledger names, by holder (own, member) and outcome",
            ("holder", "outcome"),
        )
        # Series start at 0, so that an alert on an increase sees the first event.
        for what in _COMPARED:
            self.integrity_failures.labels(what)
        for outcome in ("released", "refused", "failed"):
            self.key_releases.labels(outcome)
        for holder in ("own", "member"):
            self._checked.labels(holder, "matched")
        self.reused = metrics.counter(
            "records_reused", "Record versions asked for again, whose command was open: not sealed twice"
        )
        self.leases_open = metrics.gauge(
            "leases_open", "count", "Batches that are pinned and whose fate is not known yet"
        )
        self.lease_overdue = metrics.gauge(
            "lease_overdue",
            "seconds",
            "By how much the oldest open lease is past its end, on the channel's clock; 0 when none is",
        )
        self.leases_settled = metrics.counter(
            "leases_settled",
            f"Batches whose fate is known; outcome: {', '.join(_OUTCOMES)}",
            ("outcome",),
        )
        for outcome in _OUTCOMES:
            self.leases_settled.labels(outcome)
        self.blocks_waiting = metrics.gauge(
            "blocks_waiting", "count", "Unpinned blocks that are still on the own Kubo node's disk"
        )
        self.blocks_collected = metrics.counter("blocks_collected", "Unpinned blocks removed from the disk")
        self.collection_duration = metrics.histogram(
            "collection_duration", "seconds", "Time to remove a portion, during which Kubo imports nothing"
        )
        self.swarm_peers = metrics.gauge("swarm_peers", "count", "Connected nodes of the private swarm")
        self.repository_bytes = metrics.gauge("repository", "bytes", "Size of the own Kubo repository")

    def differed(self, what: str, reason: str, path: str = "") -> MeshError:
        """Count bytes that did not match; gives the error to raise. `what`: see `integrity_failures`."""
        self.integrity_failures.labels(what).inc()
        return MeshError.integrity(reason, path)

    def count_check(self, holder: str, *, matched: bool) -> None:
        """A block of `own` or of a `member` was hashed and compared with its CID."""
        self._checked.labels(holder, "matched" if matched else "differed").inc()
