"""Which drills there are, and what each has to bring about. What is done stands in the runbooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MERCY, LAKESIDE = {"organisation": "mercy"}, {"organisation": "lakeside"}
PAGE = {"severity": "page"}


@dataclass(frozen=True)
class Drill:
    """A runbook that is followed.

    labels   which the alert has to fire with, beside its name
    seconds  within which it has to fire after the fault, and to end after it was mended, at the fast pace;
             thresholds and deadlines of the services, which nothing shortens, are in it
    """

    alert: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 60.0

    @property
    def rules(self) -> str:
        """The file that the alert is in."""
        return "slo.yml" if self.alert.endswith("BudgetBurn") else "alerts.yml"


DRILLS = (
    Drill("AvailabilityBudgetBurn", MERCY | PAGE, 120),
    Drill("BreakGlassUsed", LAKESIDE, 90),
    Drill("CallersNotAdmitted", MERCY),
    Drill("CertificateEndsSoon", LAKESIDE | PAGE | {"service": "notify", "certificate": "tls"}),
    Drill("EmergencyNotOnRecord", MERCY, 120),
    Drill("EventLagBudgetBurn", MERCY | PAGE, 120),
    Drill("EventsNotConsumed", MERCY | {"consumer": "notify"}, 120),
    Drill("EventsNotPublished", MERCY),
    Drill("FabricCaAway", MERCY),
    Drill("FabricDown", LAKESIDE | {"job": "fabric-peer"}),
    Drill("ForgedCommands", MERCY, 120),
    Drill("IntegrityFailure", MERCY | {"what": "own-block"}, 90),
    Drill("IpfsDown", LAKESIDE | {"job": "ipfs"}),
    Drill("JetStreamFull", MERCY, 90),
    Drill("KeyReleasesFailing", MERCY | {"outcome": "failed"}),
    Drill("NatsDown", LAKESIDE),
    Drill("OrdererWithoutLeader", {"channel": "cbmdhi"}, 90),
    Drill("OutcomesUnknown", MERCY, 90),
    Drill("PeerBehind", LAKESIDE, 90),
    Drill("ProjectionBehind", MERCY, 90),
    Drill("QueueTooOld", MERCY | {"service": "gateway"}),
    Drill("ReadLatencyBudgetBurn", MERCY | PAGE, 120),
    Drill("RefusingLoad", MERCY | {"service": "gateway", "queue": "open"}, 120),
    Drill("ReplicasFailing", MERCY, 90),
    Drill("ServiceDown", LAKESIDE | {"service": "notify"}),
    Drill("ServiceNotReady", LAKESIDE | {"service": "storage"}),
    Drill("SwarmAlone", MERCY, 90),
    Drill("TooManyConflicts", {}, 90),
    Drill("WriteLatencyBudgetBurn", MERCY | PAGE, 120),
)

# Followed on a real node, by `make k8s-run` (tests/cluster/missed_backup.py): the metrics are of Kubernetes.
ON_KUBERNETES: tuple[str, ...] = ("BackupMissing",)


def named(names: list[str]) -> list[Drill]:
    """Those drills, in their order here; all when none is named. Raises KeyError naming what is none."""
    known = {drill.alert: drill for drill in DRILLS}
    for name in names:
        if name not in known:
            raise KeyError(f"there is no drill {name!r}; there are: {', '.join(known)}")
    return [drill for drill in DRILLS if not names or drill.alert in names]
