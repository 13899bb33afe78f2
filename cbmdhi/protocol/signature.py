"""Signatures: ECDSA P-256 over SHA-256 of a label, a zero byte and the message; DER, low s.

The label keeps a signature made for one purpose from being worth anything for another.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

COMMAND = "cbmdhi/command/v1"
DELEGATION = "cbmdhi/delegation/v1"
LOGIN = "cbmdhi/login/v1"
CALL = "cbmdhi/call/v1"
REPLICA = "cbmdhi/replica/v2"
BACKUP = "cbmdhi/backup/v1"

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# Hashed here: OpenSSL looks its digest up anew for each signature, which is a quarter of verifying one.
_SHA256 = ec.ECDSA(Prehashed(hashes.SHA256()))


class BadSignature(Exception):
    """The signature does not fit the bytes and the key."""


def sign(private_key: ec.EllipticCurvePrivateKey, label: str, *parts: bytes) -> bytes:
    """Sign the parts, joined, under a label. Gives DER with low s (as Fabric demands too)."""
    return low_s(private_key.sign(_digest(label, parts), _SHA256))


def verify(public_key: ec.EllipticCurvePublicKey, signature: bytes, label: str, *parts: bytes) -> None:
    """Check a signature made by `sign`. Raises BadSignature; high s counts as bad."""
    try:
        _, s = decode_dss_signature(signature)
    except ValueError as error:
        raise BadSignature("not a DER signature") from error
    if s > _ORDER // 2:
        raise BadSignature("s is not low")
    try:
        public_key.verify(signature, _digest(label, parts), _SHA256)
    except InvalidSignature as error:
        raise BadSignature("does not fit the key and the bytes") from error


def low_s(signature: bytes) -> bytes:
    """The same DER signature with s in the lower half of the group's order."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, _ORDER - s))


def spki(public_key: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a public key."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=10_000)
def load_public_key(spki_der: bytes) -> ec.EllipticCurvePublicKey:
    """Load a P-256 key. Raises ValueError for anything else.

    Those used last are kept: one key signs thousands of commands, and loading costs a third of verifying.
    """
    try:
        key = load_der_public_key(spki_der)
    except UnsupportedAlgorithm as error:
        raise ValueError("not a P-256 public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("not a P-256 public key")
    return key


def load_private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Load an unencrypted P-256 private key. Raises ValueError for anything else."""
    try:
        key = load_pem_private_key(pem, password=None)
    except UnsupportedAlgorithm as error:
        raise ValueError("not a P-256 private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError("not a P-256 private key")
    return key


def new_private_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(cast(ec.EllipticCurve, ec.SECP256R1()))


def _digest(label: str, parts: tuple[bytes, ...]) -> bytes:
    return hashlib.sha256(label.encode() + b"\x00" + b"".join(parts)).digest()
