"""What readiness rests on: the own peer, and a projection that keeps up. NATS is not among it: events may
lag, and the service works without them; `cbmdhi_ledger_publication_lag_blocks` and the log say so."""

from services.ledger.chain import Channel
from services.ledger.fabric import EvaluateError
from services.ledger.metrics import LedgerMetrics
from services.ledger.peer_state import mesh_error
from services.ledger.projection import Projection
from services.runtime.remembered import Remembered

MAX_LAG_BLOCKS = 50

# The own readiness, identity and storage each ask every second; an answer costs ledger and peer some CPU.
_REMEMBER_SECONDS = 1.0


class Health:
    """Height of the own peer, and how far behind it the projection is."""

    def __init__(self, channel: Channel, projection: Projection, metrics: LedgerMetrics) -> None:
        self._channel = channel
        self._projection = projection
        self._metrics = metrics
        self._heights = Remembered[str, int](1, seconds=_REMEMBER_SECONDS)

    async def height(self) -> int:
        """Blocks that the own peer has, or had a second ago. Raises MeshError UNAVAILABLE."""
        remembered = self._heights.get("")
        if remembered is not None:
            return remembered
        try:
            height = (await self._channel.chain_info()).height
        except EvaluateError as exc:
            raise mesh_error(exc) from exc
        self._metrics.height.set(height)
        self._heights.put("", height)
        return height

    async def check(self) -> str | None:
        """For readiness."""
        refusal = self._projection.refusal
        if refusal:
            return refusal
        lag = await self.height() - self._projection.next_block
        return f"the projection is {lag} blocks behind the peer" if lag > MAX_LAG_BLOCKS else None
