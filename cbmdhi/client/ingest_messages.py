"""IngestRequests put together from items that are serialized already: nothing is encoded twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# IngestRequest.items: field 4, length-delimited.
_TAG = b"\x22"
MOST_ITEMS = 500
_MOST_BYTES = 1 << 20


def requests(messages: Sequence[bytes]) -> Iterator[bytes]:
    """Serialized IngestRequests of serialized IngestItems: as few as number and size allow."""
    parts: list[bytes] = []
    size = 0
    for message in messages:
        if parts and (len(parts) == 3 * MOST_ITEMS or size + len(message) > _MOST_BYTES):
            yield b"".join(parts)
            parts, size = [], 0
        parts += (_TAG, varint(len(message)), message)
        size += len(message) + 6
    if parts:
        yield b"".join(parts)


def varint(value: int) -> bytes:
    """A length as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
