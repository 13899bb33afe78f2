"""What the ledger service counts. Labels are from closed lists."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from opentelemetry.trace import SpanKind

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from fabric_gateway import FabricError
from services.runtime import telemetry, tracing
from services.runtime.errors import code_name

_SPANS = {"endorse": "fabric endorse", "submit": "fabric order", "commit": "fabric commit"}
_SIZES = (1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000)


class LedgerMetrics:
    """Made once. The batchers measure queues and batch sizes themselves."""

    def __init__(self, metrics: telemetry.Metrics) -> None:
        self.all = metrics
        self.batch_bytes = metrics.histogram("batch_size", "bytes", "Bytes of a batch", buckets=_SIZES)
        self.conflicts = metrics.counter("conflicts", "Transactions invalidated by another one")
        self.unknown = metrics.counter("unknown_outcomes", "Batches whose fate was not learned in time")
        self._step_seconds = metrics.histogram("step_duration", "seconds", "Time of a Fabric step", ("step",))
        self._step_failures = metrics.counter("step_failures", "Fabric steps that failed", ("step",))
        self.late_keys = metrics.gauge(
            "late_keys", "items", "Writer keys that custodians have not received yet"
        )
        self._verdicts = metrics.counter("verdicts", "Commands by what became of them", ("code",))
        self._verdicts.labels("OK")
        for step in ("endorse", "submit", "commit"):
            self._step_failures.labels(step)
        self.height = metrics.gauge("peer_height", "blocks", "Blocks that the own peer has")
        self.projected = metrics.gauge("projected_height", "blocks", "Blocks that the projection has read")
        self.published = metrics.gauge("published_height", "blocks", "Blocks whose events are published")
        self.publication_lag = metrics.gauge("publication_lag", "blocks", "Blocks not published yet")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A span and a duration for `endorse`, `submit` or `commit`."""
        started = perf_counter()
        with tracing.span(_SPANS[name], kind=SpanKind.CLIENT):
            try:
                yield
            except FabricError:
                self._step_failures.labels(name).inc()
                raise
            finally:
                self._step_seconds.labels(name).observe(perf_counter() - started, telemetry.exemplar())

    def count_verdicts(self, groups: Sequence[ledger_pb2.GroupReceipt]) -> None:
        codes = Counter(
            code_pb2.CODE_ALREADY_COMMITTED if receipt.already_committed else receipt.code
            for group in groups
            for receipt in group.receipts
        )
        for code, count in codes.items():
            self._verdicts.labels(code_name(code)).inc(count)
