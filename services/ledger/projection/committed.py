"""A block as both followers need it, read and parsed once."""

from dataclasses import dataclass

from fabric_gateway import Block, BlockTransaction
from services.ledger.domain.transactions import Change, CommittedTransaction, facts_of
from services.runtime.errors import MeshError


@dataclass(frozen=True)
class Checkpoint:
    """The next block to read. `header_hash` of the one before it; empty at the beginning."""

    next_block: int = 0
    header_hash: bytes = b""


@dataclass(frozen=True)
class CommittedBlock:
    """A block with the VALID transactions of our chaincode."""

    block: Block
    transactions: tuple[CommittedTransaction, ...]

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint behind this block."""
        return Checkpoint(self.block.number + 1, self.block.header_hash)


def committed(block: Block, channel: str, chaincode: str) -> CommittedBlock:
    """What our chaincode's transactions wrote to its namespace. Raises MalformedState."""
    transactions = tuple(
        _committed(transaction, block.number, chaincode)
        for transaction in block.transactions
        if transaction.valid
        and transaction.channel == channel
        and transaction.action is not None
        and transaction.action.chaincode == chaincode
    )
    return CommittedBlock(block, transactions)


def check_continues(checkpoint: Checkpoint, previous_hash: bytes) -> None:
    """Raises MeshError INTEGRITY when a block does not follow the one that was read before it."""
    if checkpoint.header_hash and checkpoint.header_hash != previous_hash:
        raise MeshError.integrity(
            "the peer's next block does not follow the blocks read before: it is another chain, or it was "
            "changed; find out which, and delete the projection's file to read the chain again"
        )


def _committed(transaction: BlockTransaction, block: int, chaincode: str) -> CommittedTransaction:
    writes = transaction.action.writes if transaction.action else ()
    changes = (
        Change(key, None if deleted else value)
        for namespace, key, value, deleted in writes
        if namespace == chaincode
    )
    return CommittedTransaction(
        transaction.transaction_id, block, transaction.timestamp_ms, facts_of(changes)
    )
