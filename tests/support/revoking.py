"""Revocation lists, as a member's Fabric CA signs them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

HOUR = timedelta(hours=1)


def revocation_list(
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    revoked: Sequence[x509.Certificate] = (),
    *,
    made: datetime | None = None,
    good_for: timedelta = HOUR,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    of_entries: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """An X.509 CRL, DER.

    extensions  of the list, each with whether it is critical
    of_entries  of each entry
    """
    made = made or datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer)
    builder = builder.last_update(made).next_update(made + good_for)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
        for extension, critical in of_entries:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.revocation_date(made).build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def der(*certificates: x509.Certificate) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in certificates]


def nobody(msp_id: str, address: str) -> bool:
    """Nobody was revoked."""
    return False


def no_problem(msp_id: str) -> str | None:
    """Every member's list is known."""
    return None
