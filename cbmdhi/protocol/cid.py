"""Content identifiers: CIDv1 in base32, SHA-256, computed here and compared with what IPFS says.

Two codecs: `raw` (0x55) for what is stored, `dag-cbor` (0x71) for the list that holds a batch together.
https://github.com/multiformats/cid, https://ipld.io/specs/codecs/dag-cbor/spec/
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cbor2

RAW = 0x55
DAG_CBOR = 0x71
_LINK_TAG = 42


class HashMismatch(Exception):
    """The bytes are not those that the CID names."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A dag-cbor block that links to others: its CID and its bytes."""

    cid: str
    block: bytes


def raw(data: bytes) -> str:
    """CID of a raw block."""
    return from_bytes(_binary(RAW, data))


def dag_cbor(encoded: bytes) -> str:
    """CID of a block that is dag-cbor already."""
    return from_bytes(_binary(DAG_CBOR, encoded))


def to_bytes(cid: str) -> bytes:
    """Binary CID, 36 bytes. Raises ValueError for anything but a CIDv1 as this project makes them."""
    if not cid.startswith("b") or cid != cid.lower():
        raise ValueError("not a CIDv1 in base32")
    padded = cid[1:].upper() + "=" * (-(len(cid) - 1) % 8)
    try:
        binary = base64.b32decode(padded)
    except ValueError as error:
        raise ValueError("not a CIDv1 in base32") from error
    if len(binary) != 36 or binary[0] != 1 or binary[1] not in (RAW, DAG_CBOR) or binary[2:4] != b"\x12\x20":
        raise ValueError("not a CIDv1 of raw or dag-cbor with SHA-256")
    return binary


def from_bytes(binary: bytes) -> str:
    """Text of a binary CID."""
    return "b" + base64.b32encode(binary).decode().lower().rstrip("=")


def check(cid: str, data: bytes) -> None:
    """Check that `data` is what `cid` names. Raises HashMismatch, or ValueError for no such CID."""
    if to_bytes(cid)[4:] != hashlib.sha256(data).digest():
        raise HashMismatch("the bytes do not have the hash that their CID names")


def batch_root(cids: Sequence[str]) -> Batch:
    """The dag-cbor list of links that holds a batch together: pinning it pins them all."""
    block = cbor2.dumps([cbor2.CBORTag(_LINK_TAG, b"\x00" + to_bytes(cid)) for cid in cids], canonical=True)
    return Batch(dag_cbor(block), block)


def links(block: bytes) -> list[str]:
    """The CIDs in a block made by `batch_root`. Raises ValueError for anything else."""
    try:
        items = cbor2.loads(block)
        return [from_bytes(item.value[1:]) for item in items if item.tag == _LINK_TAG]
    except (cbor2.CBORDecodeError, AttributeError, TypeError) as error:
        raise ValueError("not a list of links") from error


def _binary(codec: int, data: bytes) -> bytes:
    return bytes((1, codec, 0x12, 0x20)) + hashlib.sha256(data).digest()
