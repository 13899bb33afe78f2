"""Messages put together from parts that are serialized already.

A length-delimited field may be written by itself, and fields may be concatenated: the bytes parse as the
message that holds them all (protobuf.dev, Encoding).
"""

from collections.abc import Iterable

_LENGTH_DELIMITED = 2


def repeated_field(number: int, values: Iterable[bytes]) -> bytes:
    """Field `number` of a message, once for each value: a serialized message, or bytes."""
    tag = _varint(number << 3 | _LENGTH_DELIMITED)
    return b"".join(part for value in values for part in (tag, _varint(len(value)), value))


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
