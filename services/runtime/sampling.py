"""Which traces leave this process, and how many errors besides."""

import time
from collections.abc import Sequence
from typing import Any

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind

CHOSEN = otel.create_key("cbmdhi-chosen")
"""In a context: the trace that begins there is sampled."""

_UNSAMPLED_ERRORS_PER_SECOND = 50


class _Roots(Sampler):
    """Begins a trace: chosen before, or for something that is sampled already, or by the ratio."""

    def __init__(self, ratio: float) -> None:
        self._by_ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        is_chosen = parent_context is not None and CHOSEN in parent_context
        sampler = self._by_ratio
        if is_chosen or any(link.context.trace_flags.sampled for link in links or ()):
            sampler = ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        return f"Roots({self._by_ratio.rate})"


class Tracing:
    """How a process traces; made anew by `tracing.configure`."""

    def __init__(self, resource: Resource, ratio: float, processor: SpanProcessor | None) -> None:
        self.exports = processor is not None
        self.ratio = ratio
        self.processor = processor
        sampler = ParentBased(_Roots(ratio)) if processor is not None else ALWAYS_OFF
        self.provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        if processor is not None:
            self.provider.add_span_processor(processor)
        self.tracer = self.provider.get_tracer("cbmdhi")
        self._second = 0
        self._late = 0

    def may_export_error(self) -> bool:
        """A bound: when everything fails, telling it must not cost more than doing it did."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._late = second, 0
        self._late += 1
        return self._late <= _UNSAMPLED_ERRORS_PER_SECOND
