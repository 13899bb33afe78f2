"""Open: the envelope of a record and its data key, sealed to the reader, on a committed decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import structlog

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol import envelope
from services.runtime.errors import MeshError, code_name
from services.storage.blocks import Blocks
from services.storage.domain.keys import releasers
from services.storage.metrics import StorageMetrics
from services.storage.releasing import Entitled, Releasing

_log = structlog.get_logger()

_SEALED_DATA_KEY_BYTES = 32 + 1136


class KeyGiver(Protocol):
    """The other members (`members.OtherMembers`), or a fake."""

    @property
    def msps(self) -> tuple[str, ...]:
        """Who can be asked."""
        ...

    async def release_key(
        self, msp: str, tx_id: str, command_id: str, header: bytes, seconds: float
    ) -> bytes:
        """A data key sealed to the reader. Raises MeshError."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """What a reader needs: blocks (root first), sealed data key, who released it, the ledger's entry."""

    blocks: list[bytes]
    sealed_data_key: bytes
    released_by: str
    record: RecordVersion


class Opening:
    """Opens records for readers.

    release_seconds  for each member that is asked for the key
    """

    def __init__(
        self,
        own_msp: str,
        releasing: Releasing,
        blocks: Blocks,
        members: KeyGiver,
        metrics: StorageMetrics,
        *,
        release_seconds: float,
    ) -> None:
        self._own_msp = own_msp
        self._releasing = releasing
        self._blocks = blocks
        self._members = members
        self._metrics = metrics
        self._release_seconds = release_seconds

    async def open(self, tx_id: str, command_id: str) -> OpenedRecord:
        """Raises MeshError FORBIDDEN, NOT_FOUND, INTEGRITY, UNAVAILABLE."""
        entitled = await self._releasing.entitle(tx_id, command_id)
        content = entitled.record.content
        blocks = await self._blocks.record(content.cid, content.replicas)
        header = self._header(blocks[0], content.writer_key.key_id)
        sealed, msp = await self._key(entitled, tx_id, header)
        return OpenedRecord(blocks, sealed, msp, entitled.record)

    def _header(self, root_block: bytes, key_id: str) -> bytes:
        try:
            header, parsed = envelope.header(root_block)
        except envelope.CannotOpen as exc:
            self._metrics.integrity_failures.labels("envelope").inc()
            raise MeshError(
                code_pb2.CODE_INTEGRITY, "what lies under the record's CID is no envelope"
            ) from exc
        if parsed.writer_key_id != key_id:
            self._metrics.integrity_failures.labels("envelope").inc()
            raise MeshError(
                code_pb2.CODE_INTEGRITY, "the envelope names another writer key than the channel does"
            )
        return header

    async def _key(self, entitled: Entitled, tx_id: str, header: bytes) -> tuple[bytes, str]:
        """The sealed data key and who released it: whoever can is asked in turn."""
        codes: list[int] = []
        able = releasers(self._own_msp, entitled.record.writer_msp, entitled.custodians)
        for msp in able:
            try:
                if msp == self._own_msp:
                    return await self._releasing.release_to(entitled, header), msp
                if msp in self._members.msps:
                    return await self._ask(msp, tx_id, entitled.grant.command_id, header), msp
            except MeshError as err:
                codes.append(err.code)
                _log.warning("key.not_released", member=msp, code=code_name(err.code), reason=err.reason)
        raise _not_released(codes)

    async def _ask(self, msp: str, tx_id: str, command_id: str, header: bytes) -> bytes:
        sealed = await self._members.release_key(msp, tx_id, command_id, header, self._release_seconds)
        if len(sealed) != _SEALED_DATA_KEY_BYTES:
            self._metrics.integrity_failures.labels("sealed-key").inc()
            raise MeshError(code_pb2.CODE_INTEGRITY, "the member gave no sealed data key")
        return sealed


def _not_released(codes: list[int]) -> MeshError:
    for code, reason in (
        (code_pb2.CODE_INTEGRITY, "the record's keys or envelope are damaged; tell its writer"),
        (code_pb2.CODE_FORBIDDEN, "the writer and the custodians see no decision that permits it"),
    ):
        if codes and all(found == code for found in codes):
            return MeshError(code, reason)
    return MeshError(
        code_pb2.CODE_UNAVAILABLE,
        "neither the record's writer nor a custodian of its patient released the key; try again",
        retry_after_ms=1000,
    )
