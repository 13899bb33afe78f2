"""One batch: sealed and submitted together. What becomes of what was sealed, storage finds out by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PutRecord
from cbmdhi.command.v1.state_pb2 import BatchItem, RecordVersion, ReplicaReceipt, SealedBatch, StoredContent
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, Receipt, SealedGroup
from cbmdhi.storage.v1.storage_pb2 import SealItem, SealResponse
from services.gateway.domain import results
from services.gateway.domain.group import Key, Parsed
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.resubmissions import RecordVersions, records_of
from services.gateway.pipeline.submission import Receipts, Submission
from services.runtime.errors import MeshError, copied, nothing_done
from services.runtime.refusal import Refused


class Ledger(RecordVersions, Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def submit(
        self, groups: Sequence[SealedGroup], seals: Sequence[SealedBatch]
    ) -> list[GroupReceipt]: ...


class Storage(Protocol):
    """Storage (services.gateway.backends.storage), or a fake."""

    async def seal(self, items: Sequence[SealItem]) -> SealResponse: ...


class BatchProcessor:
    """Seals, submits, settles."""

    def __init__(self, ledger: Ledger, storage: Storage, metrics: GatewayMetrics) -> None:
        self._ledger = ledger
        self._storage = storage
        self._metrics = metrics

    async def process(self, batch: Sequence[Submission]) -> list[Receipts | Exception]:
        """Receipts for each group, in order, or the error that befell it. Raises MeshError when
        nothing could be sealed."""
        refused, seals = await self._seal(batch)
        answers: dict[Submission, Receipts | Exception] = {
            one: results.refused(one.commands, why) for one, why in refused.items()
        }
        sealed = [one for one in batch if one not in refused]
        try:
            receipts = await self._submit(sealed, seals)
        except MeshError as err:
            if err.nothing_done:
                return [answers.get(one) or copied(err) for one in batch]
            receipts = [results.unknown(one.commands) for one in sealed]
        records = await self._committed_before(sealed, receipts)
        replicas = {seal.root_sha256: seal.receipts for seal in seals}
        for one, settled in zip(sealed, receipts, strict=True):
            answers[one] = _answer(one, settled, replicas, records)
        return [answers[one] for one in batch]

    async def _seal(
        self, batch: Sequence[Submission]
    ) -> tuple[dict[Submission, Refused], Sequence[SealedBatch]]:
        """What was refused, and the seals of the rest."""
        contents = [(one, index) for one in batch for index in sorted(one.matched)]
        refused: dict[Submission, Refused] = {}
        if not contents:
            return refused, ()
        # Nothing is on the channel before it is submitted.
        with self._metrics.stage("seal"), nothing_done():
            answer = await self._storage.seal([_seal_item(one, index) for one, index in contents])
        for (one, index), result in zip(contents, answer.results, strict=True):
            if result.code != code_pb2.CODE_OK:
                refused.setdefault(one, Refused(result.code, result.reason, _path_of(result.code)).at(index))
                continue
            stored = StoredContent()
            stored.CopyFrom(result.stored)
            stored.command_index = index
            one.stored[index] = stored
            one.sealed_keys.extend(result.sealed_keys)
        return refused, answer.seals

    async def _submit(
        self, batch: Sequence[Submission], seals: Sequence[SealedBatch]
    ) -> list[Sequence[Receipt]]:
        if not batch:
            return []
        groups = [
            SealedGroup(
                item=BatchItem(group=one.group, contents=one.stored.values()), sealed_keys=one.sealed_keys
            )
            for one in batch
        ]
        with self._metrics.stage("submit"):
            return [answer.receipts for answer in await self._ledger.submit(groups, seals)]

    async def _committed_before(
        self, batch: Iterable[Submission], receipts: Iterable[Sequence[Receipt]]
    ) -> Mapping[Key, RecordVersion] | MeshError:
        """The ledger's entries of those records that were committed before: one question for all."""
        again: list[tuple[Parsed, Receipt]] = [
            (one.commands[index], settled[index])
            for one, settled in zip(batch, receipts, strict=True)
            for index in one.stored
            if _is_again(settled[index])
        ]
        try:
            commands, first = [parsed for parsed, _ in again], [receipt for _, receipt in again]
            return await records_of(self._ledger, commands, first)
        except MeshError as err:
            return err


def _answer(
    one: Submission,
    receipts: Sequence[Receipt],
    replicas: Mapping[bytes, Sequence[ReplicaReceipt]],
    records: Mapping[Key, RecordVersion] | MeshError,
) -> Receipts | MeshError:
    stored = dict(one.stored)
    for index in one.stored:
        if _is_again(receipts[index]):
            record = None if isinstance(records, MeshError) else records.get(one.commands[index].key)
            if record is None:
                # It is committed. What was sealed now may not be what the channel points at.
                return _content_unknown(records)
            stored[index] = record.content
    return results.committed(receipts, stored, replicas)


def _is_again(receipt: Receipt) -> bool:
    return receipt.already_committed and receipt.code == code_pb2.CODE_OK


def _content_unknown(why: Mapping[Key, RecordVersion] | MeshError) -> MeshError:
    return MeshError(
        code_pb2.CODE_UNAVAILABLE,
        "it was committed before, and where its content lies cannot be looked up now; send the same again",
        retry_after_ms=why.retry_after_ms if isinstance(why, MeshError) else 0,
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )


def _seal_item(one: Submission, index: int) -> SealItem:
    parsed, content = one.commands[index], one.matched[index]
    put = parsed.put or PutRecord()
    return SealItem(
        record_id=put.record_id,
        version=put.version,
        patient=put.patient,
        content=content.content,
        salt=content.salt,
        content_commitment=put.content_commitment,
        command_id=parsed.header.command_id,
        signer=parsed.signed.signer,
    )


def _path_of(code: int) -> str:
    return "body.put_record.patient" if code == code_pb2.CODE_NOT_FOUND else "contents"
