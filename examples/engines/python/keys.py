"""Keys: the signing key, and the key to which data keys are sealed. They never leave the engine's folder."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

COMMAND, DELEGATION, LOGIN = "cbmdhi/command/v1", "cbmdhi/delegation/v1", "cbmdhi/login/v1"
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SHA256 = ec.ECDSA(hashes.SHA256())


class Refused(Exception):
    """Something that cannot go on; the sentence says why."""


class Unanswered(Refused):
    """Something was sent, and what became of it is not known yet."""


def make_keys(state: Path, consortium: Path, member: str) -> None:
    """Write a new engine's state: its keys, the consortium that it pins, its member."""
    pinned = consortium.read_bytes()
    member_of(json.loads(pinned), member)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (state / "key.pem").exists():
        raise Refused("there are keys already: a lost key cannot be had again")
    private = ec.generate_private_key(ec.SECP256R1())
    write(
        state / "key.pem",
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    # ML-KEM's seed (64 bytes) and X25519 (32).
    sealing = MLKEM768PrivateKey.generate().private_bytes_raw()
    write(state / "hpke.key", sealing + X25519PrivateKey.generate().private_bytes_raw())
    write(state / "consortium.json", pinned)
    write(state / "member", member.encode())
    print("address", Keys(state).address, flush=True)


def write(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    new.rename(path)


def member_of(consortium: dict[str, Any], name: str) -> dict[str, Any]:
    """The member of that name in consortium.json."""
    for member in consortium["members"]:
        if member["name"] == name:
            return member
    raise Refused(f"the consortium has no member {name}")


class Keys:
    """An identity."""

    def __init__(self, state: Path) -> None:
        self.private_pem = (state / "key.pem").read_bytes()
        private = serialization.load_pem_private_key(self.private_pem, None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise Refused("key.pem is no key of P-256")
        self._private = private
        self.public_key = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.address = address_of(self.public_key)
        raw = (state / "hpke.key").read_bytes()
        mlkem, x25519 = (
            MLKEM768PrivateKey.from_seed_bytes(raw[:64]),
            X25519PrivateKey.from_private_bytes(raw[64:]),
        )
        self.hpke_public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()

    # [start:sign]
    def sign(self, label: str, *parts: bytes) -> bytes:
        """ECDSA over SHA-256 of the label, a zero byte and the parts: DER, with s in the lower half."""
        r, s = decode_dss_signature(self._private.sign(_message(label, parts), _SHA256))
        return encode_dss_signature(r, min(s, _ORDER - s))

    # [end:sign]

    def certificate_request(self) -> str:
        """PKCS#10 in PEM whose common name is the address: it tells nothing about anybody."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.address)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name)
        signed = request.sign(self._private, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM).decode()


def address_of(public_key: bytes) -> str:
    """cb1 and the first 20 bytes of SHA-256 of the DER SubjectPublicKeyInfo."""
    return "cb1" + base32(hashlib.sha256(public_key).digest()[:20])


def base32(raw: bytes) -> str:
    """Lower case, without padding."""
    return base64.b32encode(raw).decode().lower().rstrip("=")


def is_signed(public_key: bytes, signature: bytes, label: str, *parts: bytes) -> bool:
    """Whether it is what `sign` makes; a high s is bad, though the mathematics would take it."""
    return is_signature(public_key, signature, _message(label, parts))


def is_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the key signed the message, with a low s."""
    try:
        key = serialization.load_der_public_key(public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            return False
        _, s = decode_dss_signature(signature)
        key.verify(signature, message, _SHA256)
    except (ValueError, InvalidSignature):
        return False
    return s <= _ORDER // 2


def _message(label: str, parts: tuple[bytes, ...]) -> bytes:
    return label.encode() + b"\x00" + b"".join(parts)


def uuid7() -> str:
    """A new UUIDv7 (RFC 9562): milliseconds first, so that ids ascend."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6], raw[8] = raw[6] & 0x0F | 0x70, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
