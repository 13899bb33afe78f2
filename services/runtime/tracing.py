"""Traces: W3C trace context, spans over OTLP. What is not sampled costs next to nothing, errors leave always.

    with tracing.span("kubo dag/import", kind=SpanKind.CLIENT) as span:
        span.set(bytes=len(car))

An unsampled span is only a pair of ids. When it ends with a fault of the mesh it is made after all, with the
ids that were passed on meanwhile: so the spans along which the error travelled are exported, in every
process that it passed (docs/adr/0014-traces.md).
"""

import random
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError, code_name
from services.runtime.masking import clean
from services.runtime.sampling import CHOSEN, Tracing

ATTRIBUTES = frozenset(("attempt", "block", "bytes", "code", "count", "tx_id"))
"""What a span may say besides its name; exported as `cbmdhi.<name>`. Nothing of a person, no record's id."""

FAULTS = frozenset(
    (
        *(code_pb2.CODE_UNSPECIFIED, code_pb2.CODE_INTERNAL, code_pb2.CODE_INTEGRITY),
        *(code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.CODE_UNKNOWN_OUTCOME),
        code_pb2.CODE_ENDORSEMENT_FAILED,
    )
)
"""Codes that are errors of the mesh. The others are answers: a refusal, or "not so fast"."""

_PROPAGATOR = TraceContextTextMapPropagator()
_EXPORT_SECONDS = 5
_QUEUE = 4_096


_now = Tracing(Resource.create({}), 0.0, None)


def configure(
    service: str,
    organisation: str = "",
    *,
    endpoint: str = "",
    ratio: float = 0.0,
    processor: SpanProcessor | None = None,
) -> TracerProvider:
    """Set up this process. Call `shutdown()` on what comes back: it sends what waits.

    endpoint   of an OTLP receiver over gRPC, `http://host:port`; empty: no span is made
    ratio      of the traces that begin here; a caller's decision goes before it
    processor  instead of the exporter to `endpoint` (tests)
    """
    global _now
    resource = Resource.create(
        {
            "service.name": f"cbmdhi-{service}",
            "service.namespace": organisation,
            # The SDK's own is a UUID, which looks like a record's.
            "service.instance.id": secrets.token_hex(8),
        }
    )
    if processor is None and endpoint:
        exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=_EXPORT_SECONDS
        )
        processor = BatchSpanProcessor(exporter, max_queue_size=_QUEUE, schedule_delay_millis=1_000)
    _now = Tracing(resource, ratio, processor)
    return _now.provider


def exports() -> bool:
    """False when tracing is off: then nothing needs to be prepared for it."""
    return _now.exports


class span:
    """A span around a block of code, the current one meanwhile.

    parent    whose child it is: another's context (`extract`), or a span of this process. By default
              the current span's; `Context()` begins a trace
    links     what it is done for, when that is not one thing
    expected  exceptions that are no fault here
    """

    __slots__ = (
        *("_name", "_parent", "_kind", "_links", "_expected"),
        *("_span", "_token", "_above", "_started_ns", "_attributes", "_fault"),
    )

    def __init__(
        self,
        name: str,
        *,
        parent: Context | SpanContext | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[SpanContext] = (),
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        self._name = name
        self._parent = parent
        self._kind = kind
        self._links = links
        self._expected = expected
        self._span: trace.Span | None = None
        self._attributes: dict[str, Any] = {}
        self._fault = ""

    def __enter__(self) -> Self:
        here = _now
        if not here.exports and self._parent is None and _context_of(None).is_valid:
            return self  # off: an id for the whole of a call is enough for the logs
        parent = self._parent
        if isinstance(parent, SpanContext):
            parent = trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
        self._above = _context_of(parent)
        self._started_ns = time.time_ns()
        links = [Link(context) for context in self._links]
        self._span = here.tracer.start_span(
            self._name, parent, self._kind, links=links, start_time=self._started_ns
        )
        self._token = otel.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._span is None:
            return
        otel.detach(self._token)
        if error is not None:
            self._note(error)
        if self._span.is_recording():
            _end(self._span, self._attributes, self._fault)
        elif self._fault and _now.exports and _now.may_export_error():
            self._export_after_all(self._span.get_span_context())

    @property
    def context(self) -> SpanContext:
        """To link to."""
        return self._span.get_span_context() if self._span is not None else trace.INVALID_SPAN_CONTEXT

    def set(self, **attributes: Any) -> None:
        """Say something of `ATTRIBUTES` about it; anything else is dropped."""
        if self._span is not None and _now.exports:
            self._attributes.update(_exported(attributes))

    def fail(self, code: int) -> None:
        """It came to this code, which was not raised through it."""
        self.set(code=code_name(code))
        if code in FAULTS:
            self._fault = code_name(code)

    def _note(self, error: BaseException) -> None:
        if isinstance(error, MeshError):
            self.fail(error.code)
        elif (
            isinstance(error, Exception)
            and not isinstance(error, self._expected)
            and not isinstance(error, grpc.aio.AbortError)
        ):
            # The text of an exception may hold anything.
            self._fault = type(error).__name__

    def _export_after_all(self, context: SpanContext) -> None:
        if _now.processor is None:
            return
        _now.processor.on_end(
            ReadableSpan(
                self._name,
                context=SpanContext(context.trace_id, context.span_id, False, TraceFlags(TraceFlags.SAMPLED)),
                parent=self._above if self._above.is_valid else None,
                resource=_now.provider.resource,
                attributes=self._attributes,
                links=[Link(one) for one in self._links],
                kind=self._kind,
                status=Status(StatusCode.ERROR, self._fault),
                start_time=self._started_ns,
                end_time=time.time_ns(),
            )
        )


def begin(name: str, traceparent: str, within: SpanContext | None) -> trace.Span | None:
    """A span of one of many things that are done beside one another: never the current one, ended by `end`.

    None when it is not sampled, which is found out before anything is made.

    traceparent  the sender's own context for it; with none, the ratio decides, and it begins a trace
    within       what it came with: linked
    """
    here = _now
    if not here.exports:
        return None
    context = extract({"traceparent": traceparent}) if traceparent else None
    if context is not None and _context_of(context).is_valid:
        if not _context_of(context).trace_flags.sampled:
            return None
    elif random.random() >= here.ratio:  # noqa: S311 — no secret
        return None
    else:
        context = Context({CHOSEN: True})
    links = [Link(within)] if within is not None and within.is_valid else []
    return here.tracer.start_span(name, context, SpanKind.SERVER, links=links)


def end(one: trace.Span, code: int) -> None:
    """End what `begin` gave, with what it came to."""
    name = code_name(code)
    _end(one, _exported({"code": name}), name if code in FAULTS else "")


def past(
    name: str, started_ns: int, *, parent: SpanContext | None = None, code: int = code_pb2.CODE_OK
) -> None:
    """A span that was not made before it was over: child of a sampled one, or an error without one."""
    here = _now
    if not here.exports or (parent is None and not (code in FAULTS and here.may_export_error())):
        return
    context = Context({CHOSEN: True})
    if parent is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
    end(here.tracer.start_span(name, context, start_time=started_ns), code)


def sampled() -> SpanContext | None:
    """The current span's context, when it is sampled: what a link is worth making to."""
    if not _now.exports:
        return None
    context = _context_of(None)
    return context if context.trace_flags.sampled else None


def sampled_in(carrier: Mapping[str, Any]) -> SpanContext | None:
    """The context in the headers, when it is sampled."""
    if not _now.exports or "traceparent" not in carrier:
        return None
    context = _context_of(extract(carrier))
    return context if context.trace_flags.sampled else None


def inject_metadata(metadata: Iterable[tuple[str, Any]] | None = None) -> tuple[tuple[str, Any], ...]:
    """gRPC metadata with the current trace context added."""
    return (*(metadata or ()), *inject_headers().items())


def inject_headers(headers: Mapping[str, str] | None = None) -> dict[str, str]:
    """HTTP or NATS headers with the current trace context added."""
    carrier = dict(headers or {})
    _PROPAGATOR.inject(carrier)
    return carrier


def extract(carrier: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> Context:
    """The trace context that gRPC metadata, HTTP headers or NATS headers carry."""
    pairs = carrier.items() if isinstance(carrier, Mapping) else carrier or ()
    found = {str(key).lower(): value for key, value in pairs if isinstance(value, str)}
    return _PROPAGATOR.extract(found, Context())


def _context_of(context: Context | None) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


def _exported(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"cbmdhi.{key}": clean(value) for key, value in attributes.items() if key in ATTRIBUTES}


def _end(one: trace.Span, attributes: Mapping[str, Any], fault: str) -> None:
    one.set_attributes(attributes)
    if fault:
        one.set_status(Status(StatusCode.ERROR, fault))
    one.end()
