"""The key hierarchy's decisions: which writer key is used, who gets it sealed, who can release it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WriterKeyRef:
    """A writer key as the channel names it: id, epoch (from 1), SHA-256 of the sealed key."""

    key_id: str
    epoch: int
    sealed_key_sha256: bytes


@dataclass(frozen=True, slots=True)
class WriterKey:
    """A writer key, held by the member that made it.

    key     AES-256, 32 bytes, in clear
    sealed  the same, sealed to the patient's record public key; others may hold it
    """

    ref: WriterKeyRef
    key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Patient:
    """What sealing needs to know of a registered patient."""

    address: str
    record_public_key: bytes
    custodians: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Use:
    """Use the held key with that id. `on_channel`: the channel has it already."""

    key_id: str
    on_channel: bool


@dataclass(frozen=True, slots=True)
class Make:
    """Make a new key for that epoch."""

    epoch: int


def choose_writer_key(held: Sequence[WriterKeyRef], on_channel: WriterKeyRef | None) -> Use | Make:
    """Which writer key a member uses for a patient.

    held        the keys in the member's vault for that patient
    on_channel  the member's key of the highest epoch that the channel knows for that patient

    The channel's key is used when it is held. A key that was made and never committed is used again, unless
    the channel has another key of its epoch. When the vault has lost the channel's key, a key of the next
    epoch is made; records under the lost key stay readable through the custodians.
    """
    if on_channel is None:
        newest = max(held, key=lambda ref: ref.epoch, default=None)
        return Make(1) if newest is None else Use(newest.key_id, on_channel=False)
    later = [ref for ref in held if ref.epoch > on_channel.epoch]
    if later:
        return Use(max(later, key=lambda ref: ref.epoch).key_id, on_channel=False)
    if any(ref.key_id == on_channel.key_id for ref in held):
        return Use(on_channel.key_id, on_channel=True)
    return Make(on_channel.epoch + 1)


def holders(own_msp: str, custodians: Iterable[str]) -> tuple[str, ...]:
    """The members whose private data collections get a sealed writer key: the writer, then the custodians."""
    return tuple(dict.fromkeys((own_msp, *custodians)))


def releasers(own_msp: str, writer_msp: str, custodians: Iterable[str]) -> tuple[str, ...]:
    """Who can release a data key, in the order of asking: the own member if it can, writer, custodians."""
    able = tuple(dict.fromkeys((writer_msp, *custodians)))
    own = (own_msp,) if own_msp in able else ()
    return (*own, *(msp for msp in able if msp != own_msp))
