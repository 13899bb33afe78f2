"""Groups that were sent before: they get their first receipts, and nothing of them is stored again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import BatchItem, RecordVersion, StoredContent
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, Receipt, SealedGroup
from cbmdhi.protocol import command
from services.gateway.domain import results
from services.gateway.domain.group import Key, Parsed, ends_soon
from services.gateway.pipeline.submission import Receipts, Submission
from services.runtime.ttl_cache import TtlCache

_REMEMBERED = 100_000
_REMEMBERED_SECONDS = 3_600.0
_FRESH_MS = 60_000
_AT_ONCE = 8


class RecordVersions(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def record_versions(self, versions: Sequence[tuple[str, int]]) -> list[RecordVersion | None]: ...


class Ledger(RecordVersions, Protocol):
    """The same."""

    async def submit(self, groups: Sequence[SealedGroup]) -> list[GroupReceipt]: ...

    async def receipts(self, commands: Sequence[Key]) -> list[Receipt | None]: ...


class Resubmissions:
    """Finds what is committed already. Raises MeshError.

    A command that was signed just now and has not been seen here is not looked up: that would cost each
    record a call. Should it have been sent before all the same, the ledger says so, and storage unpins what
    was sealed for it.
    """

    def __init__(self, ledger: Ledger, clock_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._clock_ms = clock_ms
        self._seen: TtlCache[Key, bool] = TtlCache(_REMEMBERED, seconds=_REMEMBERED_SECONDS)
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    def note(self, commands: Sequence[Parsed]) -> None:
        """Remember that they were sent."""
        for parsed in commands:
            self._seen.put(parsed.key, True)

    async def find(self, suspects: Sequence[Submission]) -> list[Receipts | None]:
        """For each group the receipts with which it was committed before; None when it is new.

        Raises MeshError when nothing can be known of any of them.

        Two questions for all of them. A group that was committed as something else, or in part, is decided by
        the ledger, which compares the bytes: the same get their first verdict, others CODE_CONFLICT.
        """
        async with self._at_once:
            commands = [parsed for one in suspects for parsed in one.commands]
            first = await self._ledger.receipts([parsed.key for parsed in commands])
            records = await records_of(self._ledger, commands, first)
            found: list[Receipts | None] = []
            odd: list[int] = []
            at = 0
            for one in suspects:
                known = list(zip(one.commands, first[at : at + len(one.commands)], strict=False))
                at += len(one.commands)
                found.append(_settled(known, records))
                if found[-1] is None and any(receipt for _, receipt in known):
                    odd.append(len(found) - 1)
            for index, answer in zip(
                odd, await self._decided([suspects[index] for index in odd]), strict=True
            ):
                found[index] = answer
            return found

    def is_suspect(self, one: Submission) -> bool:
        """Whether the group may have been committed before."""
        now = self._clock_ms()
        for parsed in one.commands:
            if ends_soon(parsed, now):
                return True
            if one.matched and (
                now - parsed.header.issued_at_ms > _FRESH_MS or self._seen.get(parsed.key) is not None
            ):
                return True
        return False

    async def _decided(self, suspects: Sequence[Submission]) -> list[Receipts]:
        if not suspects:
            return []
        answers = await self._ledger.submit(
            [SealedGroup(item=BatchItem(group=one.group)) for one in suspects]
        )
        commands = [parsed for one in suspects for parsed in one.commands]
        receipts = [receipt for answer in answers for receipt in answer.receipts]
        records = await records_of(self._ledger, commands, receipts)
        return [
            results.committed(answer.receipts, _contents_of(one.commands, records), {})
            for one, answer in zip(suspects, answers, strict=True)
        ]


async def records_of(
    ledger: RecordVersions, commands: Sequence[Parsed], receipts: Sequence[Receipt | None]
) -> dict[Key, RecordVersion]:
    """The ledger's entries of what was written by these very commands. Raises MeshError."""
    written = [
        (parsed.key, (put.record_id, put.version))
        for parsed, receipt in zip(commands, receipts, strict=True)
        if (put := parsed.put) is not None and receipt is not None and receipt.code == code_pb2.CODE_OK
    ]
    if not written:
        return {}
    entries = await ledger.record_versions([version for _, version in written])
    return {
        key: entry
        for (key, _), entry in zip(written, entries, strict=True)
        if entry is not None and (entry.signed_by, entry.command_id) == key
    }


def _settled(
    known: Sequence[tuple[Parsed, Receipt | None]], records: Mapping[Key, RecordVersion]
) -> Receipts | None:
    """The receipts of a group that is committed exactly as it is; None when it is not known to be."""
    receipts = [receipt for _, receipt in known if receipt is not None]
    commands = [parsed for parsed, _ in known]
    if len(receipts) != len(known) or not all(
        one.key in records and receipt.command_sha256 == command.sha256(one.signed)
        for one, receipt in zip(commands, receipts, strict=True)
    ):
        return None
    for receipt in receipts:
        receipt.already_committed = True
    return results.committed(receipts, _contents_of(commands, records), {})


def _contents_of(
    commands: Sequence[Parsed], records: Mapping[Key, RecordVersion]
) -> dict[int, StoredContent]:
    return {
        index: record.content
        for index, parsed in enumerate(commands)
        if (record := records.get(parsed.key)) is not None
    }
