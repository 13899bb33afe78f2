"""What a member released to a reader, opened by that reader and checked against the ledger's entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol import cid, envelope, hpke


class NotAsCommitted(Exception):
    """What was released does not open, or is not what the record's author committed to."""


@dataclass(frozen=True)
class Recipient:
    """To whom it was released: an address, its HPKE private key, and the Access that was permitted.

    Who reads often takes the key apart once.
    """

    address: str
    hpke_private: bytes | hpke.PrivateKey = field(repr=False)
    command_id: str


def open_released(
    record: RecordVersion, blocks: Sequence[bytes], sealed_data_key: bytes, reader: Recipient
) -> bytes:
    """The content of one version, its blocks checked by CID and what was inside by the commitment.

    `record` is the ledger's entry of what was asked for. Raises NotAsCommitted.
    """
    binding = envelope.Binding(record.patient, record.record_id, record.version)
    try:
        if not blocks:
            raise envelope.CannotOpen("there are no blocks")
        cid.check(record.content.cid, blocks[0])
        place = (reader.address, reader.command_id, record.record_id, str(record.version))
        data_key = hpke.open(reader.hpke_private, sealed_data_key, hpke.DATA_KEY, *place)
        opened = envelope.open(blocks, data_key, binding)
    except (hpke.CannotOpen, envelope.CannotOpen, cid.HashMismatch, ValueError) as error:
        raise NotAsCommitted(f"what was released does not open: {error}") from error
    if envelope.commitment(opened.salt, opened.content) != record.content_commitment:
        raise NotAsCommitted("the content is not what its author committed to")
    return opened.content
