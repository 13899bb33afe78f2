"""Checks at the start that certificates and keys are what the configuration says. Errors are sentences."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID


def check_pair(certificate_file: Path, key_file: Path) -> None:
    """Raises ValueError: no certificate, not valid now, no key, or the key of another one."""
    certificate = certificates_in(certificate_file)[0]
    _check_time(certificate, certificate_file)
    try:
        key = load_pem_private_key(key_file.read_bytes(), password=None)
    except (ValueError, TypeError) as exc:
        raise ValueError(f"{key_file} holds no private key in PEM; give the key's file") from exc
    if key.public_key() != certificate.public_key():
        raise ValueError(
            f"{key_file} is not the key of {certificate_file}; give the two that belong together"
        )


def check_issued(certificate_file: Path, roots: Iterable[Path]) -> None:
    """Raises ValueError when none of the roots issued the certificate."""
    certificate, *intermediates = certificates_in(certificate_file)
    for issuer in [*intermediates, *(root for file in roots for root in certificates_in(file))]:
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise ValueError(
        f"{certificate_file} was not issued by this member's TLS CA; enrol it there, or correct its ca_file"
    )


def check_name(certificate_file: Path, name: str) -> None:
    """Raises ValueError when the certificate is somebody else's."""
    subject = certificates_in(certificate_file)[0].subject
    names = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if name not in names:
        raise ValueError(
            f"{certificate_file} is the certificate of {', '.join(names) or 'nobody'}, not of {name};"
            " give this service its own"
        )


def certificates_in(file: Path) -> list[x509.Certificate]:
    """Those of a PEM file, its own first. Raises ValueError when it holds none."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except ValueError as exc:
        raise ValueError(f"{file} holds no certificate in PEM; enrol it again") from exc


def _check_time(certificate: x509.Certificate, file: Path) -> None:
    now = datetime.now(UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < first:
        raise ValueError(
            f"{file} is valid from {first:%Y-%m-%d %H:%M} UTC on, and here it is {now:%Y-%m-%d %H:%M} UTC;"
            " set this machine's clock (timedatectl set-ntp true), or enrol it again"
        )
    if now > last:
        raise ValueError(
            f"{file} ended at {last:%Y-%m-%d %H:%M} UTC, and here it is {now:%Y-%m-%d %H:%M} UTC;"
            " enrol it again, or set this machine's clock if that is wrong"
        )
