"""What was committed, block by block and without gaps, for services that keep their own lists."""

from cbmdhi.ledger.v1 import ledger_pb2
from fabric_gateway import EvaluateError
from services.ledger.channel.peer_state import mesh_error
from services.ledger.domain.transactions import MalformedState, told
from services.ledger.projection.follower import Blocks
from services.ledger.projection.projection import Projection
from services.runtime.errors import MeshError

_MOST_BLOCKS = 64
_MOST_BYTES = 4 << 20
"""Size of an answer: it ends with the block that exceeds this."""


class BlockFeed:
    """Reads the blocks that the projection has, so that each transaction is in the lists already."""

    def __init__(self, blocks: Blocks, projection: Projection, channel_name: str) -> None:
        self._blocks = blocks
        self._projection = projection
        self._channel_name = channel_name

    async def page(self, from_block: int) -> ledger_pb2.ListCommittedResponse:
        """The next blocks. Raises MeshError UNAVAILABLE, INTEGRITY."""
        answer = ledger_pb2.ListCommittedResponse(next_block=from_block)
        size, end = 0, min(self._projection.next_block, from_block + _MOST_BLOCKS)
        for number in range(from_block, end):
            try:
                one = await self._blocks.get(number)
            except EvaluateError as exc:
                raise mesh_error(exc) from exc
            except MalformedState as exc:
                raise MeshError.integrity("a committed value cannot be read") from exc
            for transaction in one.transactions:
                whole = told(self._channel_name, transaction)
                size += whole.ByteSize()
                answer.transactions.append(whole)
            answer.next_block = number + 1
            if size > _MOST_BYTES:
                break
        return answer
