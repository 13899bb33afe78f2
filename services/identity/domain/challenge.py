"""Challenges for login: 32 bytes with their own expiry and proof, so that any replica can check them.

    6 bytes   end of validity, Unix ms, big-endian
    10 bytes  random
    16 bytes  HMAC-SHA256(key, both || address), truncated

So issuing one takes no memory. The replica that saw a used challenge remembers it until it expires. A login
that is sent to two replicas gives two tokens for the same key.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from services.runtime.refusal import Refused
from services.runtime.used_once import UsedOnce

LIFETIME_MS = 60_000
CHALLENGE_BYTES = 32
NONCE_BYTES = 10
_END_BYTES = 6
_LABEL = b"cbmdhi/challenge/v1\x00"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the wallet signs, and until when (Unix ms)."""

    value: bytes
    expires_at_ms: int


class Challenges:
    """Issues challenges and accepts each once. `capacity`: most used ones that are remembered."""

    def __init__(self, key: bytes, capacity: int) -> None:
        self._key = key
        self._used = UsedOnce(LIFETIME_MS, capacity)

    def give(self, address: str, nonce: bytes, now_ms: int) -> Challenge:
        """A challenge for one address, valid from now for 60 s. `nonce` is 10 random bytes."""
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
        expires_at_ms = now_ms + LIFETIME_MS
        head = expires_at_ms.to_bytes(_END_BYTES, "big") + nonce
        return Challenge(head + self._proof(head, address), expires_at_ms)

    def check(self, value: bytes, address: str, now_ms: int) -> None:
        """Raise Refused UNAUTHENTICATED unless it was issued to the address, is unexpired and unused."""
        head, proof = value[: _END_BYTES + NONCE_BYTES], value[_END_BYTES + NONCE_BYTES :]
        if len(value) != CHALLENGE_BYTES or not hmac.compare_digest(proof, self._proof(head, address)):
            raise _ask_again("the challenge was not given to this address")
        if int.from_bytes(head[:_END_BYTES], "big") <= now_ms:
            raise _ask_again("the challenge is past its 60 seconds")
        if self._used.has(value, now_ms):
            raise _ask_again("the challenge was used before")

    def spend(self, value: bytes, address: str, now_ms: int) -> None:
        """Check again and remember as used, so that only one of two logins with a challenge succeeds."""
        self.check(value, address, now_ms)
        if wait := self._used.wait(now_ms):
            reason = "too many logins at this moment; try again"
            raise Refused.resource_exhausted(reason, retry_after_ms=int(wait))
        self._used.note(value, now_ms)

    def _proof(self, head: bytes, address: str) -> bytes:
        return hmac.digest(self._key, _LABEL + head + address.encode(), hashlib.sha256)[:16]


def _ask_again(what: str) -> Refused:
    return Refused.unauthenticated(f"{what}; ask for a new one and sign that", "challenge")
