"""What readiness rests on: the own peer, and that it delivers blocks.

Writing goes on while the projection is behind: lists answer UNAVAILABLE and the alert ProjectionBehind fires.
NATS is not needed either: events may lag, and `…_publication_lag_blocks` shows by how much.
"""

from fabric_gateway import EvaluateError
from services.ledger.channel.peer_state import mesh_error
from services.ledger.channel.ports import Channel
from services.ledger.metrics import LedgerMetrics
from services.ledger.projection.projection import Projection
from services.runtime.errors import MeshError
from services.runtime.ttl_cache import TtlCache

MAX_LAG_BLOCKS = 50
_RETRY_AFTER_MS = 1_000

# Readiness, identity and storage each ask every second, and an answer costs CPU here and at the peer.
_REMEMBER_SECONDS = 1.0


class Health:
    """Height of the own peer, and how far behind it the projection is."""

    def __init__(self, channel: Channel, projection: Projection, metrics: LedgerMetrics) -> None:
        self._channel = channel
        self._projection = projection
        self._metrics = metrics
        self._heights = TtlCache[str, int](1, seconds=_REMEMBER_SECONDS)

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
        if refusal := self._projection.refusal:
            return refusal
        await self.height()
        return None

    async def check_lists(self) -> None:
        """Raises MeshError UNAVAILABLE while the lists are too far behind the peer to be shown."""
        lag = await self.height() - self._projection.next_block
        if lag > MAX_LAG_BLOCKS:
            raise MeshError.unavailable(
                f"the lists of this member are {lag} blocks behind its peer; ask again",
                retry_after_ms=_RETRY_AFTER_MS,
            )
