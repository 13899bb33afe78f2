"""The envelope: one version of a record as it lies in IPFS.

The content, led by its salt, is encrypted with AES-256-GCM under a data key of its own, in chunks of
1 MiB by the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption
and its Nonce-Reuse Misuse-Resistance, CRYPTO 2015). The data key is wrapped under the writer key in the
header. Associated data binds patient, record, version, chunk and header: a swapped CID does not open.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from cbmdhi.protocol import cid as cids
from cbmdhi.protocol.binding import bind
from cbmdhi.storage.v1.envelope_pb2 import Envelope, EnvelopeHeader

SUITE = 1
CHUNK_BYTES = 1 << 20
SALT_BYTES = 32
_KEY_BYTES = 32
_NONCE_BYTES = 12
_PREFIX_BYTES = 7
# What is bound begins with a label; parts that are bound one after the other may be joined.
_CHUNK = bind("cbmdhi/envelope-chunk/v1")
_WRAP = bind("cbmdhi/envelope-key/v1")


class CannotOpen(Exception):
    """The envelope does not open: another key or place, or changed bytes."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What an envelope belongs to; a part of all associated data."""

    patient: str
    record_id: str
    version: int

    @property
    def bound(self) -> bytes:
        """The parts as text, bound in this order."""
        return bind(self.patient, self.record_id, str(self.version))


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """An envelope ready to be stored: its CID, its blocks (root first) and their bytes in all."""

    cid: str
    blocks: tuple[tuple[str, bytes], ...]
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in an envelope."""

    content: bytes
    salt: bytes


def commitment(salt: bytes, content: bytes) -> bytes:
    """What the author signs: SHA-256(salt || content)."""
    return hashlib.sha256(salt + content).digest()


def new_salt() -> bytes:
    """32 random bytes that keep a commitment from being guessed."""
    return secrets.token_bytes(SALT_BYTES)


def seal(
    content: bytes,
    salt: bytes,
    binding: Binding,
    writer_key_id: str,
    writer_key: bytes,
    data_key: bytes | None = None,
) -> SealedRecord:
    """Encrypt a content under a new data key, wrapped under the writer key (32 bytes)."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"the salt has {SALT_BYTES} bytes, not {len(salt)}")
    place = binding.bound
    random = os.urandom(_KEY_BYTES + _NONCE_BYTES + _PREFIX_BYTES)
    data_key = data_key or random[:_KEY_BYTES]
    nonce, prefix = random[_KEY_BYTES:-_PREFIX_BYTES], random[-_PREFIX_BYTES:]
    wrapped = AESGCM(writer_key).encrypt(nonce, data_key, _wrap_data(writer_key_id, place))
    header_bytes = EnvelopeHeader(
        suite=SUITE,
        writer_key_id=writer_key_id,
        wrapped_data_key=nonce + wrapped,
        nonce_prefix=prefix,
        chunk_bytes=CHUNK_BYTES,
    ).SerializeToString(deterministic=True)
    plain, cipher = salt + content, AESGCM(data_key)
    starts = range(0, len(plain), CHUNK_BYTES)
    chunks = [
        cipher.encrypt(
            _nonce(prefix, index, index == len(starts) - 1),
            plain[start : start + CHUNK_BYTES],
            _chunk_data(header_bytes, place, index, index == len(starts) - 1),
        )
        for index, start in enumerate(starts)
    ]
    if len(chunks) == 1:
        root = Envelope(header=header_bytes, chunk=chunks[0])
        stored: list[tuple[str, bytes]] = []
    else:
        named = [(cids.binary(cids.RAW, chunk), chunk) for chunk in chunks]
        root = Envelope(header=header_bytes, chunk_cids=[name for name, _ in named])
        stored = [(cids.from_bytes(name), chunk) for name, chunk in named]
    root_bytes = root.SerializeToString(deterministic=True)
    blocks = ((cids.raw(root_bytes), root_bytes), *stored)
    return SealedRecord(blocks[0][0], blocks, sum([len(data) for _, data in blocks]))


def header(root_block: bytes) -> tuple[bytes, EnvelopeHeader]:
    """The header of an envelope, as authenticated bytes and parsed. Raises CannotOpen."""
    header_bytes = _envelope(root_block).header
    return header_bytes, _parse_header(header_bytes)


def chunk_cids(root_block: bytes) -> list[str]:
    """CIDs of the chunks that lie in blocks of their own, in order; empty for a small record.

    Raises CannotOpen.
    """
    try:
        return [cids.from_bytes(binary) for binary in _envelope(root_block).chunk_cids]
    except ValueError as error:
        raise CannotOpen("the envelope names its chunks otherwise than by CID") from error


def check_root(root_block: bytes) -> None:
    """That a block is the root of an envelope, and nothing else that is stored. Raises CannotOpen."""
    envelope = _envelope(root_block)
    for block, message in ((root_block, envelope), (envelope.header, _parse_header(envelope.header))):
        # A field that this version does not know is written again as it was read.
        message.DiscardUnknownFields()
        if message.SerializeToString(deterministic=True) != block:
            raise CannotOpen("the block holds more than an envelope")


def unwrap_data_key(header_bytes: bytes, writer_key: bytes, binding: Binding) -> bytes:
    """The data key, by the writer key. Raises CannotOpen."""
    parsed = _parse_header(header_bytes)
    nonce, wrapped = parsed.wrapped_data_key[:_NONCE_BYTES], parsed.wrapped_data_key[_NONCE_BYTES:]
    try:
        return AESGCM(writer_key).decrypt(nonce, wrapped, _wrap_data(parsed.writer_key_id, binding.bound))
    except (InvalidTag, ValueError) as error:
        raise CannotOpen("the data key is wrapped for another record or under another key") from error


def open(blocks: Sequence[bytes], data_key: bytes, binding: Binding) -> Opened:
    """Decrypt an envelope's blocks, root first. Raises CannotOpen.

    The caller has checked the blocks against their CIDs, and checks `commitment` afterwards.
    """
    if not blocks:
        raise CannotOpen("there are no blocks")
    envelope = _envelope(blocks[0])
    parsed = _parse_header(envelope.header)
    chunks = list(blocks[1:]) if envelope.chunk_cids else [envelope.chunk]
    expected = list(envelope.chunk_cids)
    if expected and [cids.binary(cids.RAW, chunk) for chunk in chunks] != expected:
        raise CannotOpen("the chunks are not those that the envelope names")
    cipher, plain, place = AESGCM(data_key), bytearray(), binding.bound
    try:
        for index, chunk in enumerate(chunks):
            last = index == len(chunks) - 1
            plain += cipher.decrypt(
                _nonce(parsed.nonce_prefix, index, last),
                chunk,
                _chunk_data(envelope.header, place, index, last),
            )
    except (InvalidTag, ValueError) as error:
        raise CannotOpen("the content was sealed for another record or key, or was changed") from error
    if len(plain) < SALT_BYTES:
        raise CannotOpen("the content is shorter than its salt")
    return Opened(bytes(plain[SALT_BYTES:]), bytes(plain[:SALT_BYTES]))


def _envelope(root_block: bytes) -> Envelope:
    try:
        return Envelope.FromString(root_block)
    except DecodeError as error:
        raise CannotOpen("the block is not an envelope") from error


def _parse_header(header_bytes: bytes) -> EnvelopeHeader:
    try:
        parsed = EnvelopeHeader.FromString(header_bytes)
    except DecodeError as error:
        raise CannotOpen("the block has no envelope header") from error
    if parsed.suite != SUITE or len(parsed.nonce_prefix) != _PREFIX_BYTES:
        raise CannotOpen("the envelope is of a suite that this version does not know")
    return parsed


def _nonce(prefix: bytes, index: int, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + bytes((last,))


def _chunk_data(header_bytes: bytes, place: bytes, index: int, last: bool) -> bytes:
    return b"".join((_CHUNK, bind(header_bytes), place, bind(str(index), bytes((last,)))))


def _wrap_data(writer_key_id: str, place: bytes) -> bytes:
    return b"".join((_WRAP, bind(writer_key_id), place))
