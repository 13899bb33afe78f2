"""Blocks for whoever wants to check instead of believe, and where a transaction is."""

import asyncio
from collections.abc import Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from services.ledger.chain import Channel
from services.ledger.fabric import Block, CommitStatusError, EvaluateError, FabricError
from services.ledger.follower import RecentBlocks
from services.ledger.peer_state import mesh_error
from services.ledger.projection import Projection
from services.runtime.errors import MeshError

MAX_WAIT_SECONDS = 10.0


class Proofs:
    """Finds blocks in memory, in the projection, and else on the own peer."""

    def __init__(self, channel: Channel, projection: Projection, recent: RecentBlocks) -> None:
        self._channel = channel
        self._projection = projection
        self._recent = recent

    async def proof(self, tx_id: str, wait_seconds: float) -> ledger_pb2.GetProofResponse:
        """The block of a transaction with its neighbours' headers. Raises NOT_FOUND, UNAVAILABLE."""
        block = await self._block_of(tx_id, min(wait_seconds, MAX_WAIT_SECONDS))
        previous, following = await asyncio.gather(
            self._header(block.number - 1), self._header(block.number + 1)
        )
        return ledger_pb2.GetProofResponse(block=block.raw, previous_header=previous, next_header=following)

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

    async def _block_of(self, tx_id: str, wait_seconds: float) -> Block:
        number = (await self._projection.blocks_of([tx_id])).get(tx_id)
        if number is None:
            number = await self._committed_in(tx_id, wait_seconds)
        try:
            known = self._recent.get(number)
            return known.block if known else await self._channel.block_by_number(number)
        except EvaluateError as exc:
            raise mesh_error(exc) from exc

    async def _committed_in(self, tx_id: str, wait_seconds: float) -> int:
        # The peer itself waits for the commit; without a wait it is asked whether it is there.
        try:
            status = await self._channel.commit_status(tx_id, max(wait_seconds, 0.1))
        except CommitStatusError as exc:
            if exc.status.name == "UNAVAILABLE":
                raise MeshError(
                    code_pb2.CODE_UNAVAILABLE, "the member's peer is not there; ask again", "", 500
                ) from exc
            raise MeshError(
                code_pb2.CODE_NOT_FOUND, "no such transaction is committed on this member's peer", "tx_id"
            ) from exc
        return status.block_number

    async def _header(self, number: int) -> bytes:
        """A serialized common.BlockHeader; empty when there is no such block yet."""
        if number < 0:
            return b""
        recent = self._recent.get(number)
        header = recent.block.header if recent else await self._projection.header(number)
        if header is None and number >= (await self._height()):
            return b""
        try:
            return header or (await self._channel.block_by_number(number)).header
        except EvaluateError as exc:
            raise mesh_error(exc) from exc

    async def _height(self) -> int:
        try:
            return (await self._channel.chain_info()).height
        except EvaluateError as exc:
            raise mesh_error(exc) from exc
