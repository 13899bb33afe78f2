"""One batch: sealed together, submitted together, and what was not committed let go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, PutRecord
from cbmdhi.command.v1.state_pb2 import BatchItem, RecordVersion, SealedKey, StoredContent
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, Receipt, Submission
from cbmdhi.storage.v1.storage_pb2 import ReplicaReceipt, SealItem, SealResponse
from services.gateway.discards import Discards
from services.gateway.domain import results
from services.gateway.domain.group import Parsed
from services.gateway.domain.refusal import Refused
from services.gateway.metrics import GatewayMetrics
from services.runtime.errors import MeshError


class Ledger(Protocol):
    """The ledger (services.gateway.ledger), or a fake."""

    async def submit(self, submissions: Sequence[Submission]) -> list[GroupReceipt]: ...

    async def record(self, record_id: str, version: int) -> RecordVersion | None: ...


class Storage(Protocol):
    """Storage (services.gateway.storage), or a fake."""

    async def seal(self, items: Sequence[SealItem]) -> SealResponse: ...


@dataclass(frozen=True)
class Prepared:
    """A group that has passed every check that needs no ledger.

    contents  by the index of their PutRecord
    size      bytes of all of it
    """

    group: CommandGroup
    commands: tuple[Parsed, ...]
    contents: Mapping[int, Content]
    size: int


@dataclass
class _Sealed:
    """What storage made of one group."""

    prepared: Prepared
    stored: dict[int, StoredContent] = field(default_factory=dict[int, StoredContent])
    keys: list[SealedKey] = field(default_factory=list[SealedKey])
    refused: Refused | None = None


class BatchProcessor:
    """Seals, submits, settles."""

    def __init__(self, ledger: Ledger, storage: Storage, discards: Discards, metrics: GatewayMetrics) -> None:
        self._ledger = ledger
        self._storage = storage
        self._discards = discards
        self._metrics = metrics

    async def process(self, batch: Sequence[Prepared]) -> list[list[RecordReceipt] | Exception]:
        """Receipts for each group, in order, or the error that befell it. Raises MeshError when
        nothing could be sealed."""
        groups, root_cid, replicas = await self._seal(batch)
        carried = [group for group in groups if group.refused is None]
        failure: MeshError | None = None
        receipts: list[Sequence[Receipt]] = []
        try:
            receipts = await self._submit(carried)
        except MeshError as err:
            if err.code in results.NOTHING_DONE:
                failure = err
            else:
                receipts = [results.unknown(group.prepared.commands) for group in carried]
        settled = iter(receipts)
        answers: list[list[RecordReceipt] | Exception] = []
        kept: list[str] = []
        for group in groups:
            if group.refused is not None:
                answers.append(results.refused(group.prepared.commands, group.refused))
            elif failure is not None:
                answers.append(failure.again())
            else:
                answers.append(await self._settle(group, next(settled), replicas, kept))
        sealed = sum(len(group.stored) for group in groups)
        if sealed > len(kept):
            self._discards.discard(root_cid, kept, sealed - len(kept))
        return answers

    async def _seal(self, batch: Sequence[Prepared]) -> tuple[list[_Sealed], str, list[ReplicaReceipt]]:
        groups = [_Sealed(prepared) for prepared in batch]
        places = [(group, index) for group in groups for index in sorted(group.prepared.contents)]
        if not places:
            return groups, "", []
        with self._metrics.stage("seal"):
            answer = await self._storage.seal([_seal_item(group.prepared, index) for group, index in places])
        for (group, index), result in zip(places, answer.results, strict=True):
            if result.code != code_pb2.CODE_OK:
                why = Refused(result.code, result.reason, _path_of(result.code), index)
                group.refused = group.refused or why
                continue
            stored = StoredContent()
            stored.CopyFrom(result.stored)
            stored.command_index = index
            group.stored[index] = stored
            group.keys.extend(result.sealed_keys)
        return groups, answer.root_cid, list(answer.replicas)

    async def _submit(self, groups: Sequence[_Sealed]) -> list[Sequence[Receipt]]:
        if not groups:
            return []
        submissions = [
            Submission(
                item=BatchItem(group=group.prepared.group, contents=group.stored.values()),
                sealed_keys=group.keys,
            )
            for group in groups
        ]
        with self._metrics.stage("submit"):
            return [answer.receipts for answer in await self._ledger.submit(submissions)]

    async def _settle(
        self,
        group: _Sealed,
        receipts: Sequence[Receipt],
        replicas: Sequence[ReplicaReceipt],
        kept: list[str],
    ) -> list[RecordReceipt]:
        where = dict(group.stored)
        for index, sealed in group.stored.items():
            on_ledger: StoredContent | None = None
            if receipts[index].already_committed and receipts[index].code == code_pb2.CODE_OK:
                on_ledger = await self._on_ledger(group.prepared.commands[index])
                if on_ledger is not None:
                    where[index] = on_ledger
            if results.stays(receipts[index], sealed, on_ledger):
                kept.append(sealed.cid)
        return results.committed(receipts, where, replicas)

    async def _on_ledger(self, parsed: Parsed) -> StoredContent | None:
        """Where the ledger says that a record lies; None when that cannot be found out."""
        put = parsed.put or PutRecord()
        try:
            record = await self._ledger.record(put.record_id, put.version)
        except MeshError:
            return None
        if record is None or record.command_id != parsed.header.command_id:
            return None
        return record.content


def _seal_item(prepared: Prepared, index: int) -> SealItem:
    put = prepared.commands[index].put or PutRecord()
    content = prepared.contents[index]
    return SealItem(
        record_id=put.record_id,
        version=put.version,
        patient=put.patient,
        content=content.content,
        salt=content.salt,
        content_commitment=put.content_commitment,
    )


def _path_of(code: int) -> str:
    return "body.put_record.patient" if code == code_pb2.CODE_NOT_FOUND else "contents"
