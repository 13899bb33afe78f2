"""Keys are of P-256 and of nothing else, and a signature has one form."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from cbmdhi.protocol import signature

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
NEITHER = [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    encryption: KeySerializationEncryption | None = None,
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_a_private_key_is_loaded_as_it_was_kept() -> None:
    key = signature.new_private_key()

    assert signature.load_private_key(pem(key)).private_numbers() == key.private_numbers()


@pytest.mark.parametrize("key", NEITHER)
def test_a_key_of_another_kind_is_refused_before_it_signs_or_verifies(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    with pytest.raises(ValueError, match="not a P-256 private key"):
        signature.load_private_key(pem(key))
    with pytest.raises(ValueError, match="not a P-256 public key"):
        signature.load_public_key(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )


@pytest.mark.parametrize("number", ["2a8648ce3d030107", "2a8648ce3d0201"])
def test_a_key_of_a_kind_that_nobody_knows_is_refused_like_any_other(number: str) -> None:
    """The number of its curve, or of its kind, is one that was never given."""
    known = signature.spki(signature.new_private_key().public_key())
    unknown = known.replace(bytes.fromhex(number), bytes.fromhex(number[:-2] + "7f"))

    assert unknown != known
    with pytest.raises(ValueError, match="not a P-256 public key"):
        signature.load_public_key(unknown)
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    changed = base64.encodebytes(private.replace(bytes.fromhex(number), bytes.fromhex(number[:-2] + "7f")))
    with pytest.raises(ValueError, match="not a P-256 private key"):
        signature.load_private_key(
            b"-----BEGIN PRIVATE KEY-----\n" + changed + b"-----END PRIVATE KEY-----\n"
        )


def test_an_encrypted_private_key_is_no_key_here() -> None:
    with pytest.raises((TypeError, ValueError)):
        signature.load_private_key(pem(signature.new_private_key(), BestAvailableEncryption(b"secret")))


def test_a_signature_that_somebody_turned_over_is_bad_though_the_curve_takes_it() -> None:
    key = signature.new_private_key()
    signed = signature.sign(key, signature.COMMAND, b"a command")
    r, s = decode_dss_signature(signed)

    signature.verify(key.public_key(), signed, signature.COMMAND, b"a command")
    with pytest.raises(signature.BadSignature, match="low"):
        signature.verify(
            key.public_key(), encode_dss_signature(r, ORDER - s), signature.COMMAND, b"a command"
        )
    assert signature.low_s(encode_dss_signature(r, ORDER - s)) == signed == signature.low_s(signed)


@pytest.mark.parametrize(("above", "holds"), [(0, True), (1, False)])
def test_s_is_low_up_to_half_the_order_and_no_further(above: int, holds: bool) -> None:
    """A key that fits a signature is easily found; the other way round is what nobody can."""
    r = ec.derive_private_key(1, ec.SECP256R1()).public_key().public_numbers().x % ORDER
    s = ORDER // 2 + above
    digest = int.from_bytes(hashlib.sha256(b"cbmdhi/command/v1\x00a command").digest(), "big")
    key = ec.derive_private_key((s - digest) * pow(r, -1, ORDER) % ORDER, ec.SECP256R1()).public_key()
    made = encode_dss_signature(r, s)

    key.verify(made, b"cbmdhi/command/v1\x00a command", ec.ECDSA(hashes.SHA256()))
    if holds:
        signature.verify(key, made, signature.COMMAND, b"a command")
        return
    with pytest.raises(signature.BadSignature, match="low"):
        signature.verify(key, made, signature.COMMAND, b"a command")
