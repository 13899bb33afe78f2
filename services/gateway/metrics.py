"""What the gateway counts. Labels are codes and stages of closed lists, nothing of a caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Counter

from cbmdhi.gateway.v1.gateway_pb2 import SlowedReason
from services.runtime.errors import code_name
from services.runtime.telemetry import Metrics, exemplar

KINDS = ("records", "access", "documents")
"""What a group of commands is about: which series its time goes to."""
_PAUSES = {
    SlowedReason.SLOWED_REASON_REFUSALS: "refusals",
    SlowedReason.SLOWED_REASON_CALLER_IS_FULL: "caller_is_full",
    SlowedReason.SLOWED_REASON_GATEWAY_IS_FULL: "gateway_is_full",
}
# Fine where the promise of docs/slo.md lies.
_LATENCIES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)


class GatewayMetrics:
    """The gateway's series."""

    def __init__(self, metrics: Metrics) -> None:
        self._by_code: dict[int, Counter] = {}
        self._submissions = metrics.counter("submissions", "Commands answered, by code", ("code",))
        self._decisions = metrics.counter(
            "access_decisions",
            "Accesses by kind (access, break_glass) and what was decided",
            ("kind", "code"),
        )
        seconds = metrics.histogram(
            "submission",
            "seconds",
            f"From a group's arrival to its receipts, for what reached the channel; kind: {', '.join(KINDS)}",
            ("kind",),
            buckets=_LATENCIES,
        )
        # Once each, not for every group: finding a labelled series costs as much as counting in it.
        self._seconds = {kind: seconds.labels(kind) for kind in KINDS}
        # From 0 on: an alert sees the first of its kind only as an increase.
        for name in ("OK", "BAD_SIGNATURE", "UNKNOWN_SIGNER"):
            self._submissions.labels(name)
        for kind in ("access", "break_glass"):
            for name in ("OK", "FORBIDDEN"):
                self._decisions.labels(kind, name)
        self.replays = metrics.counter("replays", "Groups answered from what was committed before")
        self.latest_for_break_glass = metrics.counter(
            "latest_versions_for_break_glass",
            "Records whose latest version a clinician was told in order to break the glass",
        )
        self.in_flight = metrics.gauge("submissions_in_flight", "count", "Groups taken and not answered yet")
        self.in_flight_bytes = metrics.gauge("submissions_in_flight", "bytes", "Size of those groups")
        self.streams = metrics.gauge("ingest_streams", "count", "Open ingest streams")
        self._paused = metrics.counter(
            "ingest_pauses",
            f"Times a stream was not read and its sender told; what: {', '.join(_PAUSES.values())}",
            ("what",),
        )
        for name in _PAUSES.values():
            self._paused.labels(name)
        self.stages = metrics.histogram("stage", "seconds", "Time in a stage of the pipeline", ("stage",))
        self.not_admitted = metrics.counter("not_admitted", "Calls without a valid session", ("code",))
        self.not_admitted.labels("UNAUTHENTICATED")
        self.degraded = metrics.gauge("degraded", "count", "Optional dependencies away", ("dependency",))

    def count(self, code: int) -> None:
        """A command was answered."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._submissions.labels(self.code(code))
        counter.inc()

    def count_decision(self, kind: str, code: int) -> None:
        """An access was decided."""
        self._decisions.labels(kind, code_name(code)).inc()

    def pause(self, reason: SlowedReason) -> None:
        """A stream is not read for a while."""
        self._paused.labels(_PAUSES[reason]).inc()

    def observe(self, kind: str, seconds: float) -> None:
        """A group that reached the channel was answered."""
        self._seconds[kind].observe(seconds)

    @staticmethod
    def code(number: int) -> str:
        """The label of a code."""
        return code_name(number)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage: `check`, `seal`, `submit`."""
        started = perf_counter()
        try:
            yield
        finally:
            self.stages.labels(name).observe(perf_counter() - started, exemplar())
