"""Release of a data key: unwrapped and sealed to the reader in one step, on a decision proven here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_ACTIVE, RecordVersion
from cbmdhi.protocol import envelope, hpke
from services.runtime.errors import MeshError
from services.storage.cache import Cache
from services.storage.decisions import Decisions
from services.storage.domain.decision import ReadGrant
from services.storage.identities import Identities
from services.storage.metrics import StorageMetrics
from services.storage.records import Records
from services.storage.vault import Vault

_WRITER_KEYS = 10_000
_KEY_SECONDS = 600.0
_REFUSED = (code_pb2.CODE_FORBIDDEN, code_pb2.CODE_NOT_FOUND)


class SealedKeys(Protocol):
    """The own ledger (`ledger.Ledger`), or a fake."""

    async def sealed_keys(self, keys: Sequence[str]) -> list[bytes]:
        """Values of the own private data collection; empty: absent. Raises MeshError."""
        ...


@dataclass(frozen=True, slots=True)
class Entitled:
    """A grant with what the own ledger says of its record, its patient's custodians and its reader."""

    grant: ReadGrant
    record: RecordVersion
    custodians: tuple[str, ...]
    reader_public_key: bytes


class Releasing:
    """What this member releases as a record's writer or as a custodian of its patient."""

    def __init__(
        self,
        own_msp: str,
        decisions: Decisions,
        identities: Identities,
        records: Records,
        sealed_keys: SealedKeys,
        vault: Vault,
        metrics: StorageMetrics,
    ) -> None:
        self._own_msp = own_msp
        self._decisions = decisions
        self._identities = identities
        self._records = records
        self._sealed_keys = sealed_keys
        self._vault = vault
        self._metrics = metrics
        self._writer_keys: Cache[tuple[str, str, bytes], bytes] = Cache(_WRITER_KEYS, seconds=_KEY_SECONDS)

    async def entitle(self, tx_id: str, command_id: str) -> Entitled:
        """Check a decision, and the reader's standing as of at most three seconds ago.

        Raises MeshError FORBIDDEN, NOT_FOUND, UNAVAILABLE.
        """
        grant = await self._decisions.grant(tx_id, command_id)
        record = await self._records.get(grant.record_id, grant.version)
        if (record.patient, record.record_id, record.version) != (
            grant.patient,
            grant.record_id,
            grant.version,
        ):
            raise MeshError(code_pb2.CODE_FORBIDDEN, "the decision is about another patient's record")
        reader = await self._identities.person(grant.reader)
        if reader.status != IDENTITY_STATUS_ACTIVE or len(reader.hpke_public_key) != hpke.PUBLIC_KEY_BYTES:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN, "the reader is not active any more; have the identity reinstated"
            )
        custodians = await self._identities.custodians(grant.patient)
        return Entitled(grant, record, custodians, reader.hpke_public_key)

    async def release(self, tx_id: str, command_id: str, header: bytes) -> bytes:
        """The data key in an envelope's header, sealed to the reader. For another member's storage.

        Raises MeshError FORBIDDEN, NOT_FOUND, INTEGRITY, UNAVAILABLE.
        """
        try:
            entitled = await self.entitle(tx_id, command_id)
        except MeshError as err:
            self._count(err)
            raise
        return await self.release_to(entitled, header)

    async def release_to(self, entitled: Entitled, header: bytes) -> bytes:
        """The same for a decision that was checked here."""
        try:
            sealed = await self._release_to(entitled, header)
        except MeshError as err:
            self._count(err)
            raise
        self._metrics.key_releases.labels("released").inc()
        return sealed

    async def _release_to(self, entitled: Entitled, header: bytes) -> bytes:
        grant = entitled.grant
        binding = envelope.Binding(grant.patient, grant.record_id, grant.version)
        writer_key = await self._writer_key(entitled)
        try:
            data_key = envelope.unwrap_data_key(header, writer_key, binding)
        except envelope.CannotOpen as exc:
            raise self._damaged("envelope", "the envelope is not that of this record") from exc
        return hpke.seal(
            entitled.reader_public_key,
            data_key,
            hpke.DATA_KEY,
            grant.reader,
            grant.command_id,
            grant.record_id,
            str(grant.version),
        )

    async def _writer_key(self, entitled: Entitled) -> bytes:
        """The key that the data key is wrapped under: what the channel names of it never changes."""
        record = entitled.record
        place = (record.patient, record.writer_msp, record.content.writer_key.SerializeToString())
        known = self._writer_keys.get(place)
        if known is None:
            known = await self._open_writer_key(entitled)
            self._writer_keys.put(place, known)
        return known

    async def _open_writer_key(self, entitled: Entitled) -> bytes:
        record = entitled.record
        key_id = record.content.writer_key.key_id
        if record.writer_msp == self._own_msp:
            held = (await self._vault.keys([key_id])).get(key_id)
            if held is not None:
                return held.key
        if self._own_msp not in entitled.custodians:
            raise MeshError(
                code_pb2.CODE_NOT_FOUND,
                "this member holds no key for that record; ask its writer or a custodian",
            )
        record_key, writer_key = await self._sealed_keys.sealed_keys([f"rk/{record.patient}", f"wk/{key_id}"])
        if not record_key or not writer_key:
            raise MeshError(
                code_pb2.CODE_NOT_FOUND,
                "this member's sealed keys for that record are gone; ask another custodian",
            )
        if hashlib.sha256(writer_key).digest() != record.content.writer_key.sealed_key_sha256:
            raise self._damaged("sealed-key", "the sealed writer key is not the one that the channel names")
        try:
            return self._vault.open_as_custodian(
                record.patient, record_key, record.writer_msp, key_id, writer_key
            )
        except hpke.CannotOpen as exc:
            raise self._damaged("sealed-key", "the sealed keys do not open with this member's vault") from exc

    def _damaged(self, what: str, reason: str) -> MeshError:
        self._metrics.integrity_failures.labels(what).inc()
        return MeshError(code_pb2.CODE_INTEGRITY, reason)

    def _count(self, err: MeshError) -> None:
        self._metrics.key_releases.labels("refused" if err.code in _REFUSED else "failed").inc()
