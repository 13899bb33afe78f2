"""The writer key for each patient of a batch: found in the vault, or made once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.runtime.ttl_cache import TtlCache
from services.storage.channel.ledger import Ledger
from services.storage.domain.keys import Make, Patient, Use, WriterKey, choose_writer_key
from services.storage.vault import Vault

_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class ChosenWriterKey:
    """The writer key to use, and whether the channel has it already."""

    key: WriterKey
    on_channel: bool


class WriterKeys:
    """Chooses writer keys. A key that the channel has is cached and not asked for again."""

    def __init__(self, vault: Vault, registry: Ledger) -> None:
        self._vault = vault
        self._registry = registry
        self._settled: TtlCache[str, WriterKey] = TtlCache(_REMEMBERED)

    async def choose(self, patients: Iterable[Patient]) -> dict[str, ChosenWriterKey]:
        """The key for each patient, by address. Raises MeshError."""
        chosen: dict[str, ChosenWriterKey] = {}
        open_: dict[str, Patient] = {}
        for patient in patients:
            settled = self._settled.get(patient.address)
            if settled is not None:
                chosen[patient.address] = ChosenWriterKey(settled, on_channel=True)
            else:
                open_[patient.address] = patient
        if open_:
            chosen |= await self._choose(open_)
        return chosen

    async def _choose(self, patients: dict[str, Patient]) -> dict[str, ChosenWriterKey]:
        on_channel = await self._registry.writer_keys(list(patients))
        held = await self._vault.held(patients)
        choices = {
            address: choose_writer_key(held.get(address, ()), known)
            for address, known in zip(patients, on_channel, strict=True)
        }
        to_make = {patients[a]: choice.epoch for a, choice in choices.items() if isinstance(choice, Make)}
        made = await self._vault.make(to_make) if to_make else {}
        keys = await self._vault.keys(c.key_id for c in choices.values() if isinstance(c, Use))
        chosen: dict[str, ChosenWriterKey] = {}
        for address, choice in choices.items():
            if isinstance(choice, Make):
                chosen[address] = ChosenWriterKey(made[address], on_channel=False)
                continue
            chosen[address] = ChosenWriterKey(keys[choice.key_id], choice.on_channel)
            if choice.on_channel:
                self._settled.put(address, keys[choice.key_id])
        return chosen
