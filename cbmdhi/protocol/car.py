"""CAR version 1: several blocks in one file, as Kubo imports them.

https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

from collections.abc import Iterable

import cbor2

from cbmdhi.protocol import cid as cids

_CID_BYTES = 36


class BadCar(Exception):
    """Not a CAR of this project's kind: one root, CIDv1, SHA-256."""


def write(root: str, blocks: Iterable[tuple[str, bytes]]) -> bytes:
    """A CAR with one root. `blocks` are (CID, bytes), the root among them."""
    link = cbor2.CBORTag(42, b"\x00" + cids.to_bytes(root))
    header = cbor2.dumps({"roots": [link], "version": 1}, canonical=True)
    out = bytearray(_varint(len(header)) + header)
    for cid, data in blocks:
        binary = cids.to_bytes(cid)
        out += _varint(len(binary) + len(data)) + binary + data
    return bytes(out)


def read(car: bytes) -> tuple[list[str], list[tuple[str, bytes]]]:
    """Roots and blocks of a CAR, each block checked against its CID.

    Raises BadCar for a malformed file and cid.HashMismatch for a block that is not its CID's.
    """
    length, at = _read_varint(car, 0)
    try:
        header = cbor2.loads(car[at : at + length])
        roots = [cids.from_bytes(link.value[1:]) for link in header["roots"]]
        version = header["version"]
    except (cbor2.CBORDecodeError, KeyError, TypeError, AttributeError) as error:
        raise BadCar("the header is not a CAR's") from error
    if version != 1:
        raise BadCar("not a CAR of version 1")
    at += length
    blocks: list[tuple[str, bytes]] = []
    while at < len(car):
        length, at = _read_varint(car, at)
        if length <= _CID_BYTES or at + length > len(car):
            raise BadCar("a block is cut short")
        cid, data = cids.from_bytes(car[at : at + _CID_BYTES]), car[at + _CID_BYTES : at + length]
        try:
            cids.check(cid, data)
        except ValueError as error:
            raise BadCar("a block's CID is not a CIDv1 with SHA-256") from error
        blocks.append((cid, data))
        at += length
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
