"""A projection that blocks are written into by hand, and its lists read as a client does."""

import itertools
from collections.abc import Iterable, Mapping

from cbmdhi.command.v1 import state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from fabric_gateway import Block
from services.ledger.domain.transactions import Change, CommittedTransaction, facts_of
from services.ledger.projection.committed import CommittedBlock
from services.ledger.projection.lists import Lists
from services.ledger.projection.projection import Projection
from services.runtime.sqlite import Database

Writes = Mapping[str, bytes | None]
"""State keys and their values; None: deleted."""


class Book:
    """A projection that blocks are written into by hand."""

    def __init__(self, database: Database) -> None:
        self.projection, self.lists = Projection(database), Lists(database)
        self._numbers = itertools.count()

    async def block(self, *writes: Writes) -> None:
        await self.blocks(writes)

    async def blocks(self, *blocks: Iterable[Writes]) -> None:
        """Several blocks, each of one transaction, at once."""
        await self.projection.apply([self._block(writes) for writes in blocks])

    def _block(self, writes: Iterable[Writes]) -> CommittedBlock:
        number = next(self._numbers)
        facts = facts_of(Change(key, value) for one in writes for key, value in one.items())
        block = Block(number, b"", b"hash", b"header", None, ())
        return CommittedBlock(block, (CommittedTransaction(f"tx {number}", number, 1_000, facts),))

    async def trail(self, patient: str, size: int) -> list[ledger_pb2.CommittedAuditEntry]:
        """All pages of a patient's audit trail."""
        seen: list[ledger_pb2.CommittedAuditEntry] = []
        asked = ledger_pb2.ListAuditRequest(patient=patient, page_size=size)
        while True:
            page = await self.lists.audit(asked)
            assert len(page.entries) <= size
            seen += page.entries
            asked.page_token = page.next_page_token
            if not asked.page_token:
                return seen

    async def chart(self, patient: str, size: int, **narrowed: object) -> list[state_pb2.RecordVersion]:
        """All pages of a patient's records."""
        seen: list[state_pb2.RecordVersion] = []
        asked = ledger_pb2.ListRecordsRequest(patient=patient, page_size=size, **narrowed)  # type: ignore[arg-type]
        while True:
            page = await self.lists.records(asked)
            assert len(page.records) <= size
            seen += page.records
            asked.page_token = page.next_page_token
            if not asked.page_token:
                return seen
