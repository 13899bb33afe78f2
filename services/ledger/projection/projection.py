"""The projection, from which lists and receipts are answered. The follower writes it, block by block."""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from functools import partial

from services.ledger.domain.transactions import CommittedTransaction
from services.ledger.projection.committed import Checkpoint, CommittedBlock
from services.ledger.projection.rows import write_facts
from services.runtime.sqlite import Database

PROJECTION = "projection"
PUBLICATION = "publication"

_BLOCKS_AT_ONCE = 500
# A refused follower asks again more often than this.
_REFUSAL_SECONDS = 12.0


class Projection:
    """Reads and writes the projection's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._moved = asyncio.Condition()
        self._next_block = 0
        self._refused_at = float("-inf")
        self._status = ""

    def refused(self, status: str) -> None:
        """The peer refused to deliver blocks just now."""
        self._refused_at, self._status = time.monotonic(), status

    @property
    def refusal(self) -> str | None:
        """Why the peer refuses to deliver blocks; None: it does not."""
        if time.monotonic() - self._refused_at > _REFUSAL_SECONDS:
            return None
        return (
            f"the peer refuses to deliver blocks ({self._status}): clocks more than 15 minutes apart, a"
            " channel that it has not joined or an identity that it does not know; set the clocks"
            " (timedatectl set-ntp true), then see the peer's log"
        )

    @property
    def next_block(self) -> int:
        """Blocks below it are in the projection."""
        return self._next_block

    async def checkpoint(self, name: str) -> Checkpoint:
        row = await self._database.row(
            "SELECT next_block, header_hash FROM checkpoint WHERE name = ?", (name,)
        )
        return Checkpoint(row["next_block"], row["header_hash"]) if row else Checkpoint()

    async def save_checkpoint(self, name: str, checkpoint: Checkpoint) -> None:
        await self._database.write(partial(_save_checkpoint, name, checkpoint))

    async def apply(self, blocks: Sequence[CommittedBlock]) -> None:
        """Add consecutive blocks, at least one, and move the checkpoint behind them: all or nothing."""
        checkpoint = blocks[-1].checkpoint
        await self._database.write(partial(_apply, blocks, checkpoint))
        await self.advanced(checkpoint.next_block)

    async def advanced(self, next_block: int) -> None:
        """Wake up those that wait for the projection to reach `next_block`."""
        if next_block > self._next_block:
            self._refused_at = float("-inf")
        async with self._moved:
            self._next_block = next_block
            self._moved.notify_all()

    async def wait_for(self, block: int, wait_seconds: float | None = None) -> bool:
        """Wait until `block` is in the projection; False: it was not in time."""
        if self._next_block > block:
            return True
        try:
            async with asyncio.timeout(wait_seconds), self._moved:
                await self._moved.wait_for(lambda: self._next_block > block)
        except TimeoutError:
            return False
        return True

    async def blocks_of(self, tx_ids: Sequence[str]) -> dict[str, int]:
        """Blocks of transactions; what the projection does not know is left out."""
        found: dict[str, int] = {}
        for start in range(0, len(tx_ids), _BLOCKS_AT_ONCE):
            part = tx_ids[start : start + _BLOCKS_AT_ONCE]
            marks = ",".join("?" * len(part))
            rows = await self._database.rows(
                f"SELECT tx_id, block FROM transaction_block WHERE tx_id IN ({marks})",  # noqa: S608 — marks
                part,
            )
            found.update({row["tx_id"]: row["block"] for row in rows})
        return found


def _apply(blocks: Sequence[CommittedBlock], checkpoint: Checkpoint, db: sqlite3.Connection) -> None:
    for transactions in _written_together(blocks):
        write_facts(transactions, db)
    _save_checkpoint(PROJECTION, checkpoint, db)


def _written_together(blocks: Sequence[CommittedBlock]) -> list[list[CommittedTransaction]]:
    """Transactions that can be written together. One that drops a record ends its list."""
    transactions = [transaction for one in blocks for transaction in one.transactions]
    if any(transaction.facts.dropped_records for transaction in transactions):
        return [[transaction] for transaction in transactions]
    return [transactions]


def _save_checkpoint(name: str, checkpoint: Checkpoint, db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "next_block = excluded.next_block, header_hash = excluded.header_hash",
        (name, checkpoint.next_block, checkpoint.header_hash),
    )
