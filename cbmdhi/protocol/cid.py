"""Content identifiers: CIDv1 in base32, SHA-256, computed here and compared with what IPFS says.

Two codecs: `raw` (0x55) for what is stored, `dag-cbor` (0x71) for the list that holds a batch together.
A CID is `str` where it leaves the project's own code (59 characters) and `bytes` within CARs and lists (36).
https://github.com/multiformats/cid, https://ipld.io/specs/codecs/dag-cbor/spec/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

RAW = 0x55
DAG_CBOR = 0x71
BYTES = 36
"""Of a binary CID."""

_HEADS = {codec: bytes((1, codec, 0x12, 0x20)) for codec in (RAW, DAG_CBOR)}
_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567"
_TEXT = re.compile("b[a-z2-7]{58}")
_TO_DIGITS = bytes.maketrans(_BASE32, b"0123456789abcdefghijklmnopqrstuv")
_PAIRS = [chr(first) + chr(second) for first in _BASE32 for second in _BASE32]
# 36 bytes and 2 bits are 29 pairs of characters.
_SHIFTS = range(280, -1, -10)
# CBOR: tag 42, a byte string of 37, a zero byte; then the binary CID.
_LINK = b"\xd8\x2a\x58\x25\x00"
_LINK_BYTES = len(_LINK) + BYTES


class HashMismatch(Exception):
    """The bytes are not those that the CID names."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A dag-cbor block that links to others: its binary CID and its bytes."""

    cid: bytes
    block: bytes


def raw(data: bytes) -> str:
    """CID of a raw block."""
    return from_bytes(binary(RAW, data))


def binary(codec: int, data: bytes) -> bytes:
    """Binary CID of a block."""
    return _HEADS[codec] + hashlib.sha256(data).digest()


def codec(binary_cid: bytes) -> int:
    """RAW or DAG_CBOR. Raises ValueError for anything but a binary CIDv1 as this project makes them."""
    for known, head in _HEADS.items():
        if len(binary_cid) == BYTES and binary_cid.startswith(head):
            return known
    raise ValueError("not a CIDv1 of raw or dag-cbor with SHA-256")


def is_raw(binary_cid: bytes) -> bool:
    """Whether a binary CID names a raw block."""
    return binary_cid.startswith(_HEADS[RAW])


def to_bytes(cid: str) -> bytes:
    """Binary CID. Raises ValueError for anything but a CIDv1 as this project makes them."""
    if _TEXT.fullmatch(cid) is None:
        raise ValueError("not a CIDv1 in base32")
    bits = int(cid[1:].encode().translate(_TO_DIGITS), 32)
    if bits & 3:
        # Bits of nothing, which most decoders pass over: one block would have four texts.
        raise ValueError("not a CIDv1 in its one form")
    found = (bits >> 2).to_bytes(BYTES, "big")
    codec(found)
    return found


def from_bytes(binary_cid: bytes) -> str:
    """Text of a binary CID. Raises ValueError for one of another length."""
    if len(binary_cid) != BYTES:
        raise ValueError(f"a binary CID has {BYTES} bytes, not {len(binary_cid)}")
    bits = int.from_bytes(binary_cid, "big") << 2
    return "b" + "".join([_PAIRS[bits >> shift & 1023] for shift in _SHIFTS])


def check(cid: str, data: bytes) -> None:
    """Check that `data` is what `cid` names. Raises HashMismatch, or ValueError for no such CID."""
    check_binary(to_bytes(cid), data)


def check_binary(binary_cid: bytes, data: bytes) -> None:
    """`check` for a binary CID of a known codec."""
    if binary_cid[4:] != hashlib.sha256(data).digest():
        raise HashMismatch("the bytes do not have the hash that their CID names")


def batch_root(cids: Sequence[bytes]) -> Batch:
    """The dag-cbor list of links that holds a batch together: pinning it pins them all."""
    block = _LINK.join([_list_head(len(cids)), *cids])
    return Batch(binary(DAG_CBOR, block), block)


def of_root(root_sha256: bytes) -> str:
    """The CID of a batch's root by its digest, as the channel names it."""
    return from_bytes(_HEADS[DAG_CBOR] + root_sha256)


def digest(cid: str) -> bytes:
    """The SHA-256 in a CID. Raises ValueError as `to_bytes`."""
    return to_bytes(cid)[len(_HEADS[RAW]) :]


def links(block: bytes) -> list[bytes]:
    """The CIDs in a block made by `batch_root`. Raises ValueError for anything else."""
    count, head = divmod(len(block), _LINK_BYTES)
    found = [block[at : at + BYTES] for at in range(head + len(_LINK), len(block), _LINK_BYTES)]
    if block != _LINK.join([_list_head(count), *found]):
        raise ValueError("not a list of links in its one canonical form")
    for link in found:
        codec(link)
    return found


def _list_head(length: int) -> bytes:
    """How CBOR begins a list of that many, in the shortest form."""
    if length < 24:
        return bytes((0x80 + length,))
    for code, size in ((0x98, 1), (0x99, 2), (0x9A, 4)):
        if length < 1 << 8 * size:
            return bytes((code,)) + length.to_bytes(size, "big")
    raise ValueError("a list of links is not that long")
