"""Unambiguous concatenation: what is bound together is length-prefixed, never just joined."""

from __future__ import annotations


def bind(*parts: str | bytes) -> bytes:
    """Concatenate parts, each led by its length as 4 bytes big-endian; text is UTF-8."""
    out: list[bytes] = []
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        out += (len(raw).to_bytes(4, "big"), raw)
    return b"".join(out)
