"""The projection: what lists and receipts are answered from. Written by the follower, block by block."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2, state_pb2
from services.ledger.domain.transactions import CommittedTransaction, Facts, facts_of
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database

PROJECTION = "projection"
PUBLICATION = "publication"

_BLOCKS_AT_ONCE = 500


@dataclass(frozen=True)
class Checkpoint:
    """The next block to read. `header_hash` of the one before it; empty at the beginning."""

    next_block: int = 0
    header_hash: bytes = b""


class Projection:
    """Reads and writes the projection's database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._moved = asyncio.Condition()
        self._next_block = 0

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
        async with self._database.transaction() as connection:
            await connection.execute(_SAVE_CHECKPOINT, (name, checkpoint.next_block, checkpoint.header_hash))

    async def apply(
        self,
        checkpoint: Checkpoint,
        header: bytes,
        transactions: Iterable[CommittedTransaction],
    ) -> None:
        """Add a block and move the checkpoint behind it, both or neither.

        checkpoint  behind this block
        header      the serialized common.BlockHeader
        """
        number = checkpoint.next_block - 1
        together = [(transaction, facts_of(transaction)) for transaction in transactions]
        async with self._database.transaction() as connection:
            await connection.execute("INSERT OR REPLACE INTO block VALUES (?, ?)", (number, header))
            for transaction, facts in together:
                await connection.execute(
                    "INSERT OR IGNORE INTO transaction_block VALUES (?, ?)", (transaction.tx_id, number)
                )
                for statement, rows in _rows(facts, number):
                    if rows:
                        await connection.executemany(statement, rows)
            await connection.execute(
                _SAVE_CHECKPOINT, (PROJECTION, checkpoint.next_block, checkpoint.header_hash)
            )
        await self.advanced(checkpoint.next_block)

    async def advanced(self, next_block: int) -> None:
        """Tell whoever waits for it that the projection has come so far."""
        async with self._moved:
            self._next_block = next_block
            self._moved.notify_all()

    async def wait_for(self, block: int, wait_seconds: float | None = None) -> bool:
        """Wait until `block` is in the projection; False when it is not in time."""
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

    async def header(self, number: int) -> bytes | None:
        """The serialized common.BlockHeader of a block that was read."""
        row = await self._database.row("SELECT header FROM block WHERE number = ?", (number,))
        return row["header"] if row else None


def check_continues(checkpoint: Checkpoint, previous_hash: bytes) -> None:
    """Raises MeshError INTEGRITY when a block does not follow the one that was read before it."""
    if checkpoint.header_hash and checkpoint.header_hash != previous_hash:
        raise MeshError(
            code_pb2.CODE_INTEGRITY,
            "the peer's next block does not follow the blocks read before: it is another chain, or it was "
            "changed; find out which, and delete the projection's file to read the chain again",
        )


def about(entry: state_pb2.AuditEntry) -> str:
    """Whom an audit entry is about: the patient, else the identity that was registered or reviewed."""
    return entry.patient or entry.subject


_SAVE_CHECKPOINT = (
    "INSERT INTO checkpoint VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
    "next_block = excluded.next_block, header_hash = excluded.header_hash"
)

_SAVE_IDENTITY = "INSERT OR REPLACE INTO identity VALUES (?, ?, ?, ?, ?)"

_SAVE_RECORD = (
    "INSERT INTO record (record_id, version, patient, category, document) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (record_id, version) DO UPDATE SET patient = excluded.patient, "
    "category = excluded.category, document = excluded.document"
)

_SAVE_WRITER_KEY = "INSERT OR IGNORE INTO writer_key VALUES (?, ?, ?, ?)"

# An entry is written again when a break-glass is reviewed: its place and its block stay.
_SAVE_ENTRY = (
    "INSERT INTO audit (command_id, signer, about, block, entry) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (command_id, signer) DO UPDATE SET entry = excluded.entry"
)


def _rows(facts: Facts, block: int) -> list[tuple[str, list[tuple[object, ...]]]]:
    writer_keys = {
        (record.writer_msp, record.patient, record.content.writer_key.epoch): record.content.writer_key
        for record in facts.records
        if record.content.writer_key.key_id
    }
    return [
        (
            _SAVE_IDENTITY,
            [
                (one.address, one.role, one.status, one.home_msp, one.SerializeToString())
                for one in facts.identities
            ],
        ),
        (
            _SAVE_RECORD,
            [
                (one.record_id, one.version, one.patient, one.category, one.SerializeToString())
                for one in facts.records
            ],
        ),
        (_SAVE_WRITER_KEY, [(*key, value.SerializeToString()) for key, value in writer_keys.items()]),
        (
            _SAVE_ENTRY,
            [
                (one.command_id, one.signer, about(one), block, one.SerializeToString())
                for one in facts.entries
            ],
        ),
        ("DELETE FROM record WHERE record_id = ? AND version = ?", [*facts.dropped_records]),
    ]
