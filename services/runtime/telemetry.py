"""Logs, traces and metrics: one JSON line an event, W3C trace context, Prometheus series.

Nothing personal gets in: a log field that is not on the closed list is dropped (and named), and a
value that looks like an address or a UUID is masked. Metric labels come from closed lists.
"""

import logging
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

from services.runtime import tracing
from services.runtime.log_events import EVENTS, UNLISTED
from services.runtime.masking import clean

LOG_FIELDS = frozenset(
    (
        # every line
        *("ts", "level", "service", "event", "trace_id", "span_id", "dropped_fields"),
        # faults
        *(
            "code",
            "reason",
            "error_type",
            "frames",
            "logger",
            "template",
            "where",
            "task",
            "signal",
            "status",
        ),
        # calls
        *("method", "duration_ms", "deadline_ms", "attempt", "delay_ms", "peer_msp", "peer_service", "port"),
        # amounts and places
        *("count", "bytes", "queue", "batch", "block", "height", "checkpoint", "lag", "sequence", "version"),
        *("status", "channel", "member", "dependency", "stream", "consumer", "subject", "state", "tx_id"),
    )
)
"""Fields that a log line may have. `reason` is for sentences of our own code only."""

_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# A second series for each counter and bucketed series, of which nothing here makes use.
disable_created_metrics()


def configure(
    service: str,
    *,
    organisation: str = "",
    log_level: str = "info",
    otlp_endpoint: str = "",
    trace_ratio: float = 0.0,
) -> TracerProvider:
    """Set up logs on stdout and traces, once a process. Call `shutdown()` on what comes back."""
    structlog.configure(
        processors=[_stamp(service), _only_known_fields, _render],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[log_level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)
    return tracing.configure(service, organisation, endpoint=otlp_endpoint, ratio=trace_ratio)


def exemplar() -> dict[str, str] | None:
    """What names the current trace to `Histogram.observe`; None when there is none or it is not sampled."""
    span = trace.get_current_span().get_span_context()
    return {"trace_id": f"{span.trace_id:032x}"} if span.is_valid and span.trace_flags.sampled else None


class Metrics:
    """Makes metrics named `cbmdhi_<service>_<what>_<unit>`; asking twice for one gives the same."""

    def __init__(self, service: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._service = service
        self._made: dict[str, MetricWrapperBase] = {}

    @property
    def made(self) -> list[MetricWrapperBase]:
        """All that were made so far."""
        return list(self._made.values())

    def counter(self, what: str, doc: str, labels: Sequence[str] = ()) -> Counter:
        """`cbmdhi_<service>_<what>_total`."""
        name = self._name(what, "total")
        return self._made.setdefault(name, self._new(Counter, name, doc, labels))  # type: ignore[return-value]

    def gauge(self, what: str, unit: str, doc: str, labels: Sequence[str] = ()) -> Gauge:
        name = self._name(what, unit)
        return self._made.setdefault(name, self._new(Gauge, name, doc, labels))  # type: ignore[return-value]

    def histogram(
        self,
        what: str,
        unit: str,
        doc: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = _DURATIONS,
    ) -> Histogram:
        name = self._name(what, unit)
        return self._made.setdefault(name, self._new(Histogram, name, doc, labels, buckets=buckets))  # type: ignore[return-value]

    def _name(self, what: str, unit: str) -> str:
        return f"cbmdhi_{self._service}_{what}_{unit}"

    def _new(self, kind: Any, name: str, doc: str, labels: Sequence[str], **more: Any) -> Any:
        return self._made.get(name) or kind(
            name, doc, labelnames=tuple(labels), registry=self.registry, **more
        )


def _stamp(service: str) -> structlog.types.Processor:
    def stamp(_: Any, level: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        now = time.time()
        line["ts"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line["level"], line["service"] = level, service
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            line["trace_id"], line["span_id"] = f"{span.trace_id:032x}", f"{span.span_id:016x}"
        return line

    return stamp


def _only_known_fields(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    strangers = sorted(set(line) - LOG_FIELDS)
    kept = {key: clean(value) for key, value in line.items() if key in LOG_FIELDS}
    if line["event"] not in EVENTS:
        kept["event"] = UNLISTED
    if strangers:
        kept["dropped_fields"] = strangers
    return kept


def _render(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
    return orjson.dumps(line).decode()


class _LibraryHandler(logging.Handler):
    """Lines of libraries: the template without its arguments, since those may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__qualname__ if record.exc_info and record.exc_info[0] else None
        structlog.get_logger().log(
            min(logging.CRITICAL, record.levelno // 10 * 10),
            "library.message",
            logger=record.name,
            template=str(record.msg),
            where=f"{record.module}:{record.lineno}",
            error_type=error,
        )
