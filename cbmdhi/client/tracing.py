"""Trace context on its way to the mesh: an application's own (OpenTelemetry), or one made here."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


def headers() -> dict[str, str]:
    """`traceparent` of the current span, W3C; nothing when there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier


@contextmanager
def traced() -> Iterator[str]:
    """Have the mesh keep the trace of every call inside, whatever its own ratio is; yields the trace's id."""
    trace_id = secrets.randbits(128) or 1
    span = SpanContext(trace_id, secrets.randbits(64) or 1, False, TraceFlags(TraceFlags.SAMPLED))
    token = context.attach(trace.set_span_in_context(NonRecordingSpan(span)))
    try:
        yield f"{trace_id:032x}"
    finally:
        context.detach(token)
