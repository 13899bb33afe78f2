"""The block numbers of transactions."""

from collections.abc import Sequence

from fabric_gateway import FabricError
from services.ledger.channel.ports import Channel
from services.ledger.projection.projection import Projection


class BlockNumbers:
    """Finds them in the projection, and else on the own peer."""

    def __init__(self, channel: Channel, projection: Projection) -> None:
        self._channel = channel
        self._projection = projection

    async def blocks_of(self, tx_ids: Sequence[str]) -> dict[str, int]:
        """Block numbers of committed transactions. What cannot be found now is left out."""
        found = await self._projection.blocks_of(tx_ids)
        for tx_id in tx_ids:
            if tx_id not in found:
                try:
                    found[tx_id] = (await self._channel.block_by_transaction(tx_id)).number
                except FabricError:
                    continue
        return found
