"""The traces of transactions that this service submitted. Nothing of a trace is on the channel."""

from collections import OrderedDict

from opentelemetry.trace import SpanContext

_KEPT = 1_000


class Traces:
    """The last thousand sampled ones, by transaction id. The follower takes them when it reads the block."""

    def __init__(self) -> None:
        self._spans: OrderedDict[str, SpanContext] = OrderedDict()

    def keep(self, tx_id: str, span: SpanContext | None) -> None:
        """Remember the span under which a transaction was submitted; None: not sampled."""
        if span is None:
            return
        self._spans[tx_id] = span
        while len(self._spans) > _KEPT:
            self._spans.popitem(last=False)

    def take(self, tx_id: str) -> SpanContext | None:
        """The span, once."""
        return self._spans.pop(tx_id, None)
