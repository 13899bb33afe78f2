"""CAR version 1: several blocks in one file, as Kubo imports them.

https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

from collections.abc import Iterable

import cbor2

from cbmdhi.protocol import cid as cids

# The header {"roots": [root], "version": 1} in CBOR, around the root's binary CID.
_BEFORE_ROOT = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"
_AFTER_ROOT = b"\x67version\x01"


class BadCar(Exception):
    """Not a CAR of this project's kind: one root, CIDv1, SHA-256."""


def write(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR with one root. `blocks` are (binary CID, bytes), the root among them."""
    header = _BEFORE_ROOT + root + _AFTER_ROOT
    parts = [_varint(len(header)), header]
    for cid, data in blocks:
        parts += (_varint(cids.BYTES + len(data)), cid, data)
    return b"".join(parts)


def read(car: bytes) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Roots and blocks of a CAR by their binary CIDs, each block checked against its own.

    Raises BadCar for a malformed file and cid.HashMismatch for a block that is not its CID's.
    """
    length, at = _read_varint(car, 0)
    try:
        header = cbor2.loads(car[at : at + length])
        roots = [bytes(link.value[1:]) for link in header["roots"]]
        version = header["version"]
    except (cbor2.CBORDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BadCar("the header is not a CAR's") from error
    if version != 1:
        raise BadCar("not a CAR of version 1")
    at += length
    blocks: list[tuple[bytes, bytes]] = []
    while at < len(car):
        length, at = _read_varint(car, at)
        end = at + length
        if length <= cids.BYTES or end > len(car):
            raise BadCar("a block is cut short")
        cid, data = car[at : at + cids.BYTES], car[at + cids.BYTES : end]
        try:
            cids.codec(cid)
        except ValueError as error:
            raise BadCar("a block's CID is not a CIDv1 with SHA-256") from error
        cids.check_binary(cid, data)
        blocks.append((cid, data))
        at = end
    return roots, blocks


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 63:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise BadCar("a length is cut short")
