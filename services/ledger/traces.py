"""The traces of the transactions that this service carried: nothing of a trace is on the channel."""

from collections import OrderedDict

from opentelemetry.trace import SpanContext

_KEPT = 1_000


class Traces:
    """By transaction id, sampled ones alone, the last thousand. The follower meets them in the blocks."""

    def __init__(self) -> None:
        self._spans: OrderedDict[str, SpanContext] = OrderedDict()

    def keep(self, tx_id: str, span: SpanContext | None) -> None:
        """Remember under which span a transaction was carried; None: it is not sampled."""
        if span is None:
            return
        self._spans[tx_id] = span
        while len(self._spans) > _KEPT:
            self._spans.popitem(last=False)

    def take(self, tx_id: str) -> SpanContext | None:
        """The span, once."""
        return self._spans.pop(tx_id, None)
