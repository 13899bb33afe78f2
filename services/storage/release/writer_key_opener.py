"""Opens the writer keys of records: from the vault, or as a custodian from sealed keys."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol import hpke
from cbmdhi.protocol.state_keys import sealed_record_key_name, sealed_writer_key_name
from services.runtime.errors import MeshError
from services.runtime.ttl_cache import TtlCache
from services.storage.channel.ledger import Ledger
from services.storage.metrics import StorageMetrics
from services.storage.vault import Vault

_REMEMBERED = 10_000
_SECONDS = 600.0
# Writer keys in one question to the own peer; each needs two sealed keys.
_AT_ONCE = 50
# How many keys are opened before the event loop gets its turn: about 2 ms.
_TURN = 4


@dataclass(frozen=True, slots=True)
class WriterKeyName:
    """What a writer key belongs to, as the channel names it. It never changes.

    writer_key  the serialized WriterKey of the record's content
    """

    patient: str
    writer_msp: str
    writer_key: bytes


@dataclass(frozen=True, slots=True)
class WriterKeyRequest:
    """The record whose writer key is asked for, and the patient's custodians by MSP id."""

    record: RecordVersion
    custodians: tuple[str, ...]

    @property
    def place(self) -> WriterKeyName:
        """The cache key."""
        record = self.record
        return WriterKeyName(record.patient, record.writer_msp, record.content.writer_key.SerializeToString())


class WriterKeyOpener:
    """Opens writer keys. None is cached in clear for longer than about ten minutes."""

    def __init__(self, own_msp: str, sealed_keys: Ledger, vault: Vault, metrics: StorageMetrics) -> None:
        self._own_msp = own_msp
        self._sealed_keys = sealed_keys
        self._vault = vault
        self._metrics = metrics
        self._known: TtlCache[WriterKeyName, bytes] = TtlCache(_REMEMBERED, seconds=_SECONDS, spread=True)

    async def writer_keys(self, wanted: Iterable[WriterKeyRequest]) -> dict[WriterKeyName, bytes | MeshError]:
        """Writer keys by `WriterKeyRequest.place`, or why not: NOT_FOUND, INTEGRITY, UNAVAILABLE."""
        found: dict[WriterKeyName, bytes | MeshError] = {}
        unknown: dict[WriterKeyName, WriterKeyRequest] = {}
        for one in wanted:
            place = one.place
            if place in found or place in unknown:
                continue
            known = self._known.get(place)
            if known is None:
                unknown[place] = one
            else:
                found[place] = known
        if unknown:
            found |= await self._from_vault(unknown)
            left = [(place, one) for place, one in unknown.items() if place not in found]
            for start in range(0, len(left), _AT_ONCE):
                found |= await self._as_custodian(left[start : start + _AT_ONCE])
            for place in unknown:
                if isinstance(key := found[place], bytes):
                    self._known.put(place, key)
        return found

    async def _from_vault(
        self, unknown: dict[WriterKeyName, WriterKeyRequest]
    ) -> dict[WriterKeyName, bytes | MeshError]:
        """The keys that this member made itself and still holds."""
        own = {
            place: one.record.content.writer_key.key_id
            for place, one in unknown.items()
            if one.record.writer_msp == self._own_msp
        }
        if not own:
            return {}
        try:
            held = await self._vault.keys(own.values())
        except MeshError as err:
            if len(own) == 1:
                return dict.fromkeys(own, err)
            # One damaged key must not fail the others.
            found: dict[WriterKeyName, bytes | MeshError] = {}
            for place in own:
                found |= await self._from_vault({place: unknown[place]})
            return found
        return {place: held[key_id].key for place, key_id in own.items() if key_id in held}

    async def _as_custodian(
        self, left: Sequence[tuple[WriterKeyName, WriterKeyRequest]]
    ) -> dict[WriterKeyName, bytes | MeshError]:
        found: dict[WriterKeyName, bytes | MeshError] = {}
        asked: list[tuple[WriterKeyName, RecordVersion]] = []
        for place, one in left:
            if self._own_msp in one.custodians:
                asked.append((place, one.record))
            else:
                found[place] = MeshError.not_found(
                    "this member holds no key for that record; ask its writer or a custodian"
                )
        if not asked:
            return found
        names = [
            name
            for _, record in asked
            for name in (
                sealed_record_key_name(record.patient),
                sealed_writer_key_name(record.writer_msp, record.content.writer_key.key_id),
            )
        ]
        try:
            sealed = await self._sealed_keys.sealed_keys(names)
        except MeshError as err:
            return found | {place: err for place, _ in asked}
        for index, (place, record) in enumerate(asked):
            try:
                found[place] = self._opened(record, *sealed[2 * index : 2 * index + 2])
            except MeshError as err:
                found[place] = err
            if index % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        return found

    def _opened(self, record: RecordVersion, record_key: bytes, writer_key: bytes) -> bytes:
        if not record_key or not writer_key:
            raise MeshError.not_found(
                "this member's sealed keys for that record are gone; ask another custodian"
            )
        named = record.content.writer_key
        if hashlib.sha256(writer_key).digest() != named.sealed_key_sha256:
            raise self._metrics.differed(
                "sealed-key", "the sealed writer key is not the one that the channel names"
            )
        try:
            return self._vault.open_as_custodian(
                record.patient, record_key, record.writer_msp, named.key_id, writer_key
            )
        except (hpke.CannotOpen, ValueError) as exc:
            raise self._metrics.differed(
                "sealed-key", "the sealed keys do not open with this member's vault"
            ) from exc
