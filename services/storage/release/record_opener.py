"""Open: envelopes of records and their data keys, sealed to their readers, on committed decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol import envelope
from services.runtime.byte_budget import ByteBudget
from services.runtime.concurrency import each
from services.runtime.errors import MeshError, code_name
from services.storage.domain.batch import MIB
from services.storage.domain.keys import releasers
from services.storage.metrics import StorageMetrics
from services.storage.release.key_release import RELEASED_BEFORE, DecisionRef, Entitlement, KeyRelease
from services.storage.store.blocks import Blocks
from services.storage.store.member_clients import MemberClients

_log = structlog.get_logger()

_SEALED_DATA_KEY_BYTES = 32 + 1136
_MOST_BYTES = 8 * MIB
# For one call: how many records are fetched, and how many keys asked for, at the same time.
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """What a reader needs: blocks (root first), sealed data key, who released it, the record's version."""

    blocks: list[bytes]
    sealed_data_key: bytes
    released_by: str
    record: RecordVersion


class RecordOpener:
    """Opens records for readers.

    release_seconds  deadline of each member that is asked for the key
    """

    def __init__(
        self,
        own_msp: str,
        key_release: KeyRelease,
        blocks: Blocks,
        members: MemberClients,
        metrics: StorageMetrics,
        *,
        release_seconds: float,
    ) -> None:
        self._own_msp = own_msp
        self._key_release = key_release
        self._blocks = blocks
        self._members = members
        self._metrics = metrics
        self._release_seconds = release_seconds

    async def open(self, tx_id: str, command_id: str) -> OpenedRecord:
        """Raises MeshError FORBIDDEN, INACTIVE_SIGNER (revoked), NOT_FOUND, INTEGRITY, UNAVAILABLE."""
        (opened,) = await self.open_many([(tx_id, command_id)])
        if isinstance(opened, MeshError):
            raise opened
        return opened

    async def open_many(self, decided: Sequence[DecisionRef]) -> list[OpenedRecord | MeshError]:
        """Open the records of decisions, in order. Each succeeds or fails by itself, as in `open`.

        Once the blocks together exceed 8 MiB, the remaining ones fail with TOO_LARGE.
        """
        entitled = await self._key_release.entitlements(decided)
        results: list[OpenedRecord | MeshError] = [
            one if isinstance(one, MeshError) else _not_released([]) for one in entitled
        ]
        permitted = {index: one for index, one in enumerate(entitled) if isinstance(one, Entitlement)}
        # Counted twice: by the size on the channel before the fetch, and by the real size after it.
        to_fetch, fetched = ByteBudget(_MOST_BYTES), ByteBudget(_MOST_BYTES)

        async def blocks_of(index: int) -> tuple[list[bytes], bytes]:
            content = permitted[index].record.content
            _take(to_fetch, content.stored_bytes)
            blocks, header = await self.envelope(permitted[index].record)
            _take(fetched, sum(map(len, blocks)))
            return blocks, header

        found = await each(permitted, blocks_of, _AT_ONCE)
        headers: dict[int, tuple[Entitlement, bytes]] = {}
        for index, there in found.items():
            if isinstance(there, MeshError):
                results[index] = there
            else:
                headers[index] = permitted[index], there[1]
        for index, key in (await self._keys(decided, headers)).items():
            there = found[index]
            if isinstance(key, MeshError) or isinstance(there, MeshError):
                results[index] = key if isinstance(key, MeshError) else results[index]
            else:
                results[index] = OpenedRecord(there[0], key[0], key[1], permitted[index].record)
        return results

    async def envelope(self, record: RecordVersion) -> tuple[list[bytes], bytes]:
        """The blocks of a version's envelope, root first, and its header. Raises MeshError."""
        content = record.content
        blocks = await self._blocks.record(content.cid, content.replicas)
        return blocks, self._header(blocks[0], content.writer_key.key_id)

    def _header(self, root_block: bytes, key_id: str) -> bytes:
        try:
            header, parsed = envelope.header(root_block)
        except envelope.CannotOpen as exc:
            raise self._metrics.differed(
                "envelope", "what lies under the record's CID is no envelope"
            ) from exc
        if parsed.writer_key_id != key_id:
            raise self._metrics.differed(
                "envelope", "the envelope names another writer key than the channel does"
            )
        return header

    async def _keys(
        self, decided: Sequence[DecisionRef], wanted: Mapping[int, tuple[Entitlement, bytes]]
    ) -> dict[int, tuple[bytes, str] | MeshError]:
        """The sealed data keys and who released each. The own member is tried first, then the others."""
        able = {
            index: releasers(self._own_msp, entitled.record.writer_msp, entitled.custodians)
            for index, (entitled, _) in wanted.items()
        }
        here = {index: wanted[index] for index in wanted if self._own_msp in able[index]}
        released = await self._key_release.release_to(here)
        found: dict[int, tuple[bytes, str] | MeshError] = {}
        for index, sealed in released.items():
            if isinstance(sealed, bytes):
                found[index] = sealed, self._own_msp

        async def from_others(index: int) -> tuple[bytes, str]:
            entitled, header = wanted[index]
            codes: list[int] = []
            if isinstance(ours := released.get(index), MeshError):
                codes.append(_noted(self._own_msp, ours))
            for msp in able[index]:
                # A key that was released before (CONFLICT) is not asked of another member.
                if msp in self._members.msps and code_pb2.CODE_CONFLICT not in codes:
                    try:
                        return await self._ask(msp, decided[index][0], entitled, header), msp
                    except MeshError as err:
                        codes.append(_noted(msp, err))
            raise _not_released(codes)

        return found | await each([index for index in wanted if index not in found], from_others, _AT_ONCE)

    async def _ask(self, msp: str, tx_id: str, entitled: Entitlement, header: bytes) -> bytes:
        command_id = entitled.grant.command_id
        sealed = await self._members.release_key(msp, tx_id, command_id, header, self._release_seconds)
        if len(sealed) != _SEALED_DATA_KEY_BYTES:
            raise self._metrics.differed("sealed-key", "the member gave no sealed data key")
        return sealed


def _take(budget: ByteBudget, size: int) -> None:
    """Take from the budget. The last one may exceed it. Raises MeshError TOO_LARGE."""
    if not budget.take_rest(size):
        raise MeshError.too_large(
            f"the records before it have over {_MOST_BYTES // MIB} MiB already; ask for it alone"
        )


def _noted(msp: str, err: MeshError) -> int:
    _log.warning("key.not_released", member=msp, code=code_name(err.code), reason=err.reason)
    return err.code


def _not_released(codes: list[int]) -> MeshError:
    for code, reason in (
        (code_pb2.CODE_CONFLICT, RELEASED_BEFORE),
        (code_pb2.CODE_INTEGRITY, "the record's keys or envelope are damaged; tell its writer"),
        (
            code_pb2.CODE_INACTIVE_SIGNER,
            "the reader's certificate was revoked by their hospital: ask there, and register a new key",
        ),
        (code_pb2.CODE_FORBIDDEN, "the writer and the custodians see no decision that permits it"),
    ):
        if codes and all(found == code for found in codes):
            return MeshError(code, reason)
    return MeshError.unavailable(
        "neither the record's writer nor a custodian of its patient released the key; try again",
        retry_after_ms=1000,
    )
