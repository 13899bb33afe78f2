"""Groups that were sent before: they get their first receipts, and nothing of them is stored again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.command.v1.state_pb2 import BatchItem, RecordVersion, StoredContent
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, Receipt, Submission
from services.gateway.domain import results
from services.gateway.domain.group import Key, Parsed
from services.runtime.remembered import Remembered

_REMEMBERED = 100_000
_REMEMBERED_SECONDS = 3_600.0
_FRESH_MS = 60_000
_AT_ONCE = 32


class Ledger(Protocol):
    """The ledger (services.gateway.ledger), or a fake."""

    async def submit(self, submissions: Sequence[Submission]) -> list[GroupReceipt]: ...

    async def receipt(self, command_id: str, signer: str) -> Receipt | None: ...

    async def record(self, record_id: str, version: int) -> RecordVersion | None: ...


class Replays:
    """Finds what is committed already. Raises MeshError.

    A command that was signed just now and has not been seen here is not looked up: that would cost each
    record a call. Should it be a replay all the same, the ledger says so, and what was sealed for it goes.
    """

    def __init__(
        self, ledger: Ledger, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._ledger = ledger
        self._clock_ms = clock_ms
        self._seen: Remembered[Key, bool] = Remembered(_REMEMBERED, seconds=_REMEMBERED_SECONDS)
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def note(self, commands: Sequence[Parsed]) -> None:
        """Remember that they were sent."""
        for parsed in commands:
            self._seen.put(parsed.key, True)

    async def find(self, group: CommandGroup, commands: tuple[Parsed, ...]) -> list[RecordReceipt] | None:
        """The receipts of a group that was committed before; None when it is new. Worth it for suspects."""
        async with self._at_once:
            first = await asyncio.gather(
                *(self._ledger.receipt(parsed.header.command_id, parsed.signed.signer) for parsed in commands)
            )
            if not any(first):
                return None
            receipts = [receipt for receipt in first if receipt is not None]
            if len(receipts) == len(commands):
                records = await self._records(commands, receipts)
                if all(_is_exactly(records.get(index), parsed) for index, parsed in enumerate(commands)):
                    for receipt in receipts:
                        receipt.already_committed = True
                    return results.committed(receipts, _places(records), ())
            # The ledger compares the bytes: the same get their first verdict, others CODE_CONFLICT.
            receipts = await self._decided(group)
            return results.committed(receipts, _places(await self._records(commands, receipts)), ())

    def is_suspect(self, commands: tuple[Parsed, ...], *, has_contents: bool) -> bool:
        """Whether the group may have been committed before."""
        now = self._clock_ms()
        for parsed in commands:
            if parsed.header.expires_at_ms <= now:
                return True
            if has_contents and (
                now - parsed.header.issued_at_ms > _FRESH_MS or self._seen.get(parsed.key) is not None
            ):
                return True
        return False

    async def _decided(self, group: CommandGroup) -> list[Receipt]:
        answers = await self._ledger.submit([Submission(item=BatchItem(group=group))])
        return list(answers[0].receipts)

    async def _records(
        self, commands: tuple[Parsed, ...], receipts: Sequence[Receipt]
    ) -> dict[int, RecordVersion]:
        """The ledger's entries of what was written by these very commands, by their index."""
        records: dict[int, RecordVersion] = {}
        for index, (parsed, receipt) in enumerate(zip(commands, receipts, strict=True)):
            put = parsed.put
            if put is not None and receipt.code == code_pb2.CODE_OK:
                record = await self._ledger.record(put.record_id, put.version)
                if record is not None and record.command_id == parsed.header.command_id:
                    records[index] = record
        return records


def _is_exactly(record: RecordVersion | None, parsed: Parsed) -> bool:
    put = parsed.put
    return (
        record is not None
        and put is not None
        and record.content_commitment == put.content_commitment
        and (record.patient, record.category) == (put.patient, put.category)
        and record.author == parsed.signed.signer
    )


def _places(records: Mapping[int, RecordVersion]) -> dict[int, StoredContent]:
    return {index: record.content for index, record in records.items()}
