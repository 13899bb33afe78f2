"""One batch: sealed and submitted together. What becomes of what was sealed, storage finds out by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, PutRecord
from cbmdhi.command.v1.state_pb2 import BatchItem, RecordVersion, SealedBatch, SealedKey, StoredContent
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, Receipt, Submission
from cbmdhi.storage.v1.storage_pb2 import SealItem, SealResponse
from services.gateway.domain import results
from services.gateway.domain.group import Key, Parsed
from services.gateway.domain.refusal import Refused
from services.gateway.metrics import GatewayMetrics
from services.runtime.errors import MeshError, nothing_done


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def submit(
        self, submissions: Sequence[Submission], seals: Sequence[SealedBatch]
    ) -> list[GroupReceipt]: ...

    async def record_versions(self, places: Sequence[tuple[str, int]]) -> list[RecordVersion | None]: ...


class Storage(Protocol):
    """Storage (services.gateway.backends.storage), or a fake."""

    async def seal(self, items: Sequence[SealItem]) -> SealResponse: ...


@dataclass(frozen=True)
class Prepared:
    """A group that has passed every check that needs no ledger.

    contents  by the index of their PutRecord
    size      bytes of all of it
    caller    whose it is: callers take turns in the queue
    """

    group: CommandGroup
    commands: tuple[Parsed, ...]
    contents: Mapping[int, Content]
    size: int
    caller: str = ""

    @property
    def patient(self) -> str:
        """Whose record it writes first, if any: a caller's patients take turns too."""
        put = self.commands[0].put
        return "" if put is None else put.patient


@dataclass
class _Sealed:
    """What storage made of one group."""

    prepared: Prepared
    stored: dict[int, StoredContent] = field(default_factory=dict[int, StoredContent])
    keys: list[SealedKey] = field(default_factory=list[SealedKey])
    refused: Refused | None = None


class BatchProcessor:
    """Seals, submits, settles."""

    def __init__(self, ledger: Ledger, storage: Storage, metrics: GatewayMetrics) -> None:
        self._ledger = ledger
        self._storage = storage
        self._metrics = metrics

    async def process(self, batch: Sequence[Prepared]) -> list[list[RecordReceipt] | Exception]:
        """Receipts for each group, in order, or the error that befell it. Raises MeshError when
        nothing could be sealed."""
        groups, seals = await self._seal(batch)
        carried = [group for group in groups if group.refused is None]
        failure: MeshError | None = None
        receipts: list[Sequence[Receipt]] = []
        try:
            receipts = await self._submit(carried, seals)
        except MeshError as err:
            if err.nothing_done:
                failure = err
            else:
                receipts = [results.unknown(group.prepared.commands) for group in carried]
        places = await self._places(carried, receipts)
        settled = iter(receipts)
        answers: list[list[RecordReceipt] | Exception] = []
        for group in groups:
            if group.refused is not None:
                answers.append(results.refused(group.prepared.commands, group.refused))
            elif failure is not None:
                answers.append(failure.again())
            else:
                answers.append(self._settle(group, next(settled), seals, places))
        return answers

    async def _seal(self, batch: Sequence[Prepared]) -> tuple[list[_Sealed], list[SealedBatch]]:
        groups = [_Sealed(prepared) for prepared in batch]
        places = [(group, index) for group in groups for index in sorted(group.prepared.contents)]
        if not places:
            return groups, []
        # Nothing is on the channel before it is submitted.
        with self._metrics.stage("seal"), nothing_done():
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
        return groups, list(answer.seals)

    async def _submit(
        self, groups: Sequence[_Sealed], seals: Sequence[SealedBatch]
    ) -> list[Sequence[Receipt]]:
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
            return [answer.receipts for answer in await self._ledger.submit(submissions, seals)]

    def _settle(
        self,
        group: _Sealed,
        receipts: Sequence[Receipt],
        seals: Sequence[SealedBatch],
        places: Mapping[Key, StoredContent] | MeshError,
    ) -> list[RecordReceipt] | MeshError:
        where = dict(group.stored)
        for index in group.stored:
            if _is_again(receipts[index]):
                key = group.prepared.commands[index].key
                on_ledger = None if isinstance(places, MeshError) else places.get(key)
                if on_ledger is None:
                    # It is committed. What was sealed now may not be what the channel points at.
                    return _place_unknown(places)
                where[index] = on_ledger
        return results.committed(receipts, where, {seal.root_sha256: seal.receipts for seal in seals})

    async def _places(
        self, groups: Sequence[_Sealed], receipts: Sequence[Sequence[Receipt]]
    ) -> Mapping[Key, StoredContent] | MeshError:
        """Where the ledger says that those records lie which were committed before: one question for all."""
        again: dict[Key, tuple[str, int]] = {}
        for group, answered in zip(groups, receipts, strict=False):
            for index in group.stored:
                parsed = group.prepared.commands[index]
                if parsed.put is not None and _is_again(answered[index]):
                    again[parsed.key] = (parsed.put.record_id, parsed.put.version)
        if not again:
            return {}
        try:
            records = await self._ledger.record_versions([*again.values()])
        except MeshError as err:
            return err
        return {
            key: record.content
            for key, record in zip(again, records, strict=True)
            if record is not None and record.command_id == key[1]
        }


def _is_again(receipt: Receipt) -> bool:
    return receipt.already_committed and receipt.code == code_pb2.CODE_OK


def _place_unknown(why: Mapping[Key, StoredContent] | MeshError) -> MeshError:
    return MeshError(
        code_pb2.CODE_UNAVAILABLE,
        "it was committed before, and where its content lies cannot be looked up now; send the same again",
        retry_after_ms=why.retry_after_ms if isinstance(why, MeshError) else 0,
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )


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
        command_id=prepared.commands[index].header.command_id,
        signer=prepared.commands[index].signed.signer,
    )


def _path_of(code: int) -> str:
    return "body.put_record.patient" if code == code_pb2.CODE_NOT_FOUND else "contents"
