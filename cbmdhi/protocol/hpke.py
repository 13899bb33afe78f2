"""HPKE (RFC 9180) with ML-KEM-768 + X25519, HKDF-SHA256 and AES-256-GCM: one suite, several labels.

`info` is the label, a zero byte and what binds the sealed thing to its place, so that a key sealed for
one patient, record or reader does not open as another's.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from cbmdhi.protocol.binding import bind

RECORD_KEY = "cbmdhi/record-key/v1"
WRITER_KEY = "cbmdhi/writer-key/v1"
DATA_KEY = "cbmdhi/data-key/v1"
EVIDENCE_KEY = "cbmdhi/evidence-key/v1"
BACKUP_KEY = "cbmdhi/backup-key/v1"
BREAK_GLASS_REASON = "cbmdhi/break-glass-reason/v1"

PUBLIC_KEY_BYTES = 1184 + 32
PRIVATE_KEY_BYTES = 64 + 32

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class CannotOpen(Exception):
    """The sealed bytes do not open: another key, another label or binding, or changed bytes."""


def generate() -> tuple[bytes, bytes]:
    """A new key pair: private (ML-KEM seed of 64 bytes, X25519 of 32) and public (1,184 and 32)."""
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    private = mlkem.private_bytes_raw() + x25519.private_bytes_raw()
    return private, public_of(private)


def public_of(private: bytes) -> bytes:
    """The public key of a private key. Raises ValueError when it is not one."""
    mlkem, x25519 = _private_parts(private)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


class PrivateKey:
    """A private key of `generate`, taken apart once for many openings."""

    def __init__(self, private: bytes) -> None:
        """Raises ValueError when it is not one."""
        self._key = MLKEM768X25519PrivateKey(*_private_parts(private))

    def open(self, sealed: bytes, label: str, *binding: str | bytes) -> bytes:
        """Open what `seal` made for this key, label and binding. Raises CannotOpen."""
        try:
            return _SUITE.decrypt(sealed, self._key, info=_info(label, binding))
        except (InvalidTag, ValueError) as error:
            raise CannotOpen("sealed for another key or place, or changed") from error


def seal(public: bytes, plaintext: bytes, label: str, *binding: str | bytes) -> bytes:
    """Seal to a public key of 1,216 bytes; the result is 1,136 bytes longer than the plaintext."""
    return _SUITE.encrypt(plaintext, _public_key(public), info=_info(label, binding))


def open(private: bytes | PrivateKey, sealed: bytes, label: str, *binding: str | bytes) -> bytes:
    """`PrivateKey.open`, also for a key that is used once. Raises CannotOpen."""
    key = private if isinstance(private, PrivateKey) else PrivateKey(private)
    return key.open(sealed, label, *binding)


@lru_cache(maxsize=1024)
def _public_key(public: bytes) -> MLKEM768X25519PublicKey:
    if len(public) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an HPKE public key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(public[:1184]), X25519PublicKey.from_public_bytes(public[1184:])
    )


def _private_parts(private: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    if len(private) != PRIVATE_KEY_BYTES:
        raise ValueError(f"an HPKE private key has {PRIVATE_KEY_BYTES} bytes, not {len(private)}")
    return (
        MLKEM768PrivateKey.from_seed_bytes(private[:64]),
        X25519PrivateKey.from_private_bytes(private[64:]),
    )


def _info(label: str, binding: tuple[str | bytes, ...]) -> bytes:
    return label.encode() + b"\x00" + bind(*binding)
