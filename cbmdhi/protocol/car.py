"""CAR version 1: several blocks in one file, as Kubo imports them.

https://ipld.io/specs/transport/car/carv1/

Other members send CARs. Only the one form that `write` gives is read, byte for byte: nothing in it is left
to a general decoder, whose time and memory the sender would choose.
"""

from __future__ import annotations

from collections.abc import Iterable

from cbmdhi.protocol import cid as cids

# The header {"roots": [root], "version": 1} in CBOR, around the root's binary CID.
_BEFORE_ROOT = b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00"
_AFTER_ROOT = b"\x67version\x01"
_HEADER_BYTES = len(_BEFORE_ROOT) + cids.BYTES + len(_AFTER_ROOT)
_START = bytes((_HEADER_BYTES,)) + _BEFORE_ROOT
# Of a length: up to 256 MiB.
_MOST_LENGTH_BYTES = 4


class BadCar(Exception):
    """Not a CAR of this project's kind: one root, CIDv1, SHA-256, in its one form."""


def write(root: bytes, blocks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A CAR with one root. `blocks` are (binary CID, bytes), the root among them."""
    parts = [_START, root, _AFTER_ROOT]
    for cid, data in blocks:
        parts += (_varint(cids.BYTES + len(data)), cid, data)
    return b"".join(parts)


def read(car: bytes, most_blocks: int) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Root and blocks of a CAR by their binary CIDs, each block checked against its own.

    Raises BadCar for anything but what `write` gives, with at most so many blocks, and cid.HashMismatch for a
    block that is not its CID's.
    """
    root_at, at = len(_START), _HEADER_BYTES + 1
    root = car[root_at : root_at + cids.BYTES]
    if car[:at] != _START + root + _AFTER_ROOT:
        raise BadCar("the header is not that of a CAR of version 1 with one root")
    _check_cid(root)
    places: list[tuple[int, int]] = []
    while at < len(car):
        length, at = _read_varint(car, at)
        if length <= cids.BYTES or at + length > len(car):
            raise BadCar("a block is cut short")
        places.append((at, at + length))
        at += length
        if len(places) > most_blocks:
            raise BadCar(f"more than {most_blocks} blocks")
    blocks: list[tuple[bytes, bytes]] = []
    for start, end in places:
        cid, data = car[start : start + cids.BYTES], car[start + cids.BYTES : end]
        _check_cid(cid)
        cids.check_binary(cid, data)
        blocks.append((cid, data))
    return root, blocks


def _check_cid(cid: bytes) -> None:
    try:
        cids.codec(cid)
    except ValueError as error:
        raise BadCar("a CID is not a CIDv1 with SHA-256") from error


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A length in its shortest form, and where it ends."""
    value = 0
    for place, byte in enumerate(data[at : at + _MOST_LENGTH_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if byte == 0 and place:
                break
            return value, at + place + 1
    raise BadCar("a length is cut short, or not in its shortest form")
