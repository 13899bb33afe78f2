"""The channel, as whoever signs names it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel by its name and its beginning: a name can be used twice, a beginning cannot.

    genesis_sha256  SHA-256 of the serialized Genesis that the members agreed to; 32 bytes, pinned by whoever
                    signs, never taken from whoever asks for the signature
    """

    name: str
    genesis_sha256: bytes

    def __post_init__(self) -> None:
        if len(self.genesis_sha256) != hashlib.sha256().digest_size:
            raise ValueError("genesis_sha256 is not 32 bytes")
