"""Requests for certificates (PKCS#10, RFC 2986): what may be sent to the Fabric CA.

A request names its key's address and nothing else: no name of a person, no host, no extension.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import signature
from services.runtime.refusal import Refused

MAX_PEM_BYTES = 8 * 1024
_PATH = "csr_pem"


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A checked request: whose it is, the key as DER SubjectPublicKeyInfo, and the request as PEM."""

    address: str
    spki: bytes
    pem: str


def check(csr_pem: str) -> CertificateRequest:
    """Check signature, key, common name, and that nothing else is asked for. Raises Refused INVALID."""
    csr = _load(csr_pem)
    key = _public_key(csr)
    if not csr.is_signature_valid:
        raise _invalid("the request is not signed by its own key; sign it with the wallet's signing key")
    address = addresses.of_public_key(key)
    names = list(csr.subject)
    if not any(name.oid == x509.NameOID.COMMON_NAME and name.value == address for name in names):
        raise _invalid("the request's common name is not the address of its key; set it to that address")
    if len(names) != 1:
        raise _invalid(
            "the request names more than an address; leave everything but the common name out of it"
        )
    if _asks_for_more(csr):
        raise _invalid("the request asks for extensions; leave them out")
    return CertificateRequest(address, signature.spki(key), csr.public_bytes(Encoding.PEM).decode())


def _load(csr_pem: str) -> x509.CertificateSigningRequest:
    raw = csr_pem.encode()
    if not raw or len(raw) > MAX_PEM_BYTES:
        raise _invalid(f"a request for a certificate is required: PEM, at most {MAX_PEM_BYTES} bytes")
    try:
        return x509.load_pem_x509_csr(raw)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid("this is no PKCS#10 request in PEM; make one with the wallet") from error


def _public_key(csr: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    try:
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _invalid("the request's key is not a P-256 key; make the request with the wallet") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise _invalid("the request's key is not a P-256 key; make the request with the wallet")
    return key


def _asks_for_more(csr: x509.CertificateSigningRequest) -> bool:
    try:
        return len(csr.extensions) > 0
    except (ValueError, x509.DuplicateExtension) as error:
        raise _invalid("the request's extensions are malformed; leave them out") from error


def _invalid(reason: str) -> Refused:
    return Refused.invalid(reason, _PATH)
