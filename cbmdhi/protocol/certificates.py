"""X.509 as Fabric uses it: a certificate counts when a member's root issued it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

T = TypeVar("T")

SIGNER = "signer"
"""The Fabric CA's type of people, engines and devices: whoever signs commands. The type becomes the
certificate's organisational unit, and no MSP of the channel knows this one: to a peer or an orderer the
certificate is worth nothing (docs/adr/0024-certificates-of-people.md)."""


class Untrusted(Exception):
    """No root of the member vouches for the certificate."""


@lru_cache(maxsize=4096)
def parse_pem(pem: bytes) -> x509.Certificate:
    """Parse one certificate. Raises ValueError."""
    return _parse(x509.load_pem_x509_certificate, pem)


def parse_der(der: bytes) -> x509.Certificate:
    """Parse one certificate. Raises ValueError."""
    return _parse(x509.load_der_x509_certificate, der)


@lru_cache(maxsize=64)
def parse_roots(pem: str) -> tuple[x509.Certificate, ...]:
    """Parse several certificates. Raises ValueError when there is none."""
    return tuple(_parse(x509.load_pem_x509_certificates, pem.encode()))


def _parse(load: Callable[[bytes], T], raw: bytes) -> T:
    try:
        return load(raw)
    except x509.InvalidVersion as error:
        # The library's only error here that is no ValueError.
        raise ValueError("not a certificate of a version that is known") from error


def check_issued(
    certificate: x509.Certificate, roots_pem: str, *, at_ms: int | None = None, unit: str | None = None
) -> None:
    """Check that one of the roots issued the certificate directly. Raises Untrusted.

    `at_ms` (Unix ms): it must be valid then. `unit`: an organisational unit (Fabric's NodeOU) it must have.
    """
    if at_ms is not None:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        # Numbers are compared: somebody may name a time that no calendar has.
        if not first.timestamp() * 1000 <= at_ms <= last.timestamp() * 1000:
            raise Untrusted("the certificate was not valid at that time")
    if unit is not None and unit not in _names(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME):
        raise Untrusted(f"the certificate is not that of a Fabric {unit}")
    if not _is_issued(certificate, roots_pem):
        raise Untrusted("no root of that organisation issued the certificate")


@lru_cache(maxsize=4096)
def _is_issued(certificate: x509.Certificate, roots_pem: str) -> bool:
    # Never changes: a reader of many records sees the same few peers' certificates in each evidence.
    for root in parse_roots(roots_pem):
        try:
            certificate.verify_directly_issued_by(root)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False


@lru_cache(maxsize=4096)
def public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The certificate's key. Raises Untrusted when it is not an EC key."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Untrusted("the certificate's key is not an elliptic-curve key")
    return key


def common_name(certificate: x509.Certificate) -> str:
    """The common name; empty when there is none."""
    return next(iter(_names(certificate, NameOID.COMMON_NAME)), "")


def _names(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]
