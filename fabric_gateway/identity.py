"""Who a client is (X.509, an MSP) and how it signs (ECDSA P-256, low s).

The signer is a function from a SHA-256 digest to a signature, so that a key may live anywhere: in
memory, in an HSM, or with a person who is not here (see "offline" in `transaction`).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from . import _protos as fabric

Signer = Callable[[bytes], bytes]
"""SHA-256 digest (32 bytes) -> ECDSA signature, DER, low s."""

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Identity:
    """A member of an MSP. `certificate` is PEM."""

    msp_id: str
    certificate: bytes

    def serialize(self) -> bytes:
        """msp.SerializedIdentity, which Fabric calls the creator."""
        creator = fabric.identities.SerializedIdentity(mspid=self.msp_id, id_bytes=self.certificate)
        return creator.SerializeToString()


def private_key_signer(key: ec.EllipticCurvePrivateKey) -> Signer:
    """A signer with a P-256 key in memory. Raises ValueError for another curve."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("a P-256 key is needed")

    def sign(digest: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        # Fabric refuses the higher of the two valid values of s.
        return encode_dss_signature(r, min(s, _P256_ORDER - s))

    return sign


def load(msp_id: str, certificate_pem: bytes, key_pem: bytes) -> tuple[Identity, Signer]:
    """Identity and signer from PEM. Raises ValueError when they are malformed or do not belong together."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("a P-256 key is needed")
    if certificate.public_key() != key.public_key():
        raise ValueError("the key is not the certificate's")
    return Identity(msp_id, certificate_pem), private_key_signer(key)


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
