"""Addresses: what an identity is called on the channel, derived from its signing key alone."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_PATTERN = re.compile(r"cb1[a-z2-7]{32}")


@lru_cache(maxsize=10_000)
def of_spki(der: bytes) -> str:
    """Address of a DER SubjectPublicKeyInfo: `cb1` and 32 characters of base32.

    The first 20 bytes of SHA-256 over the key, lower case, unpadded (RFC 4648).
    """
    digest = hashlib.sha256(der).digest()[:20]
    return "cb1" + base64.b32encode(digest).decode().lower()


def of_public_key(key: ec.EllipticCurvePublicKey) -> str:
    """Address of a P-256 public key."""
    return of_spki(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def is_address(text: str) -> bool:
    """True when `text` has the form of an address."""
    return _PATTERN.fullmatch(text) is not None
