"""Revocation lists of the members' Fabric CAs: who is not to be believed any more, signed by the CA itself.

A list (X.509 CRL, RFC 5280) names serial numbers and nobody. With it travel the certificates that it revokes,
so that whoever has both knows the addresses, and believes the CA alone, whoever handed them over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from cbmdhi.protocol import certificates
from cbmdhi.protocol.certificates import Untrusted

MAX_ENTRIES = 5_000
"""Of one member's list: somebody checks a signature for each. A CA leaves out what has ended, so that a list
holds a year's leavers and lost keys: of a house of 20,000 a tenth that."""

MAX_BYTES = 8 << 20
"""Of one member's list with its certificates: half of what a message may have, so that it is heard whole."""

_MILLISECONDS = 1000
# Of the list, and of an entry, that say nothing about whom it names (RFC 5280, 5.2 and 5.3).
_KNOWN = frozenset(
    {
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.CRL_NUMBER,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    }
)
_KNOWN_OF_ENTRIES = frozenset({CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE})


class TooLong(Untrusted):
    """The member's CA made it, and it is more than anybody checks: that member's trouble alone."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A verified list.

    crl           DER
    certificates  DER, those that it revokes, by serial number
    addresses     their common names: an address stands for one key, so that with any of its certificates the
                  key is revoked
    digest        SHA-256 over the serial numbers: the same for lists that revoke the same
    made_ms       when the CA made it, Unix ms
    good_until_ms when the CA will have made the next one at the latest, Unix ms
    """

    crl: bytes
    certificates: tuple[bytes, ...]
    addresses: frozenset[str]
    serials: frozenset[int]
    digest: bytes
    made_ms: int
    good_until_ms: int


def verify(
    crl: bytes, revoked: Iterable[bytes], roots_pem: str, known: RevocationList | None = None
) -> RevocationList:
    """A list as one of the roots signed it, with a certificate for each entry. Raises Untrusted.

    crl      DER
    revoked  DER; what the list does not name is left out
    known    an earlier one of the same member: when it revokes the same, its certificates are these; what is
             byte for byte in it is not checked again

    Raises TooLong over MAX_ENTRIES or MAX_BYTES. Half a millisecond an entry: not for an event loop.
    """
    _check_bytes(crl, ())
    roots = certificates.parse_roots(roots_pem)
    try:
        parsed = x509.load_der_x509_crl(crl)
        is_signed = any(_signed_by(parsed, root) for root in roots)
    except (ValueError, x509.InvalidVersion) as error:
        raise Untrusted("not a revocation list in DER") from error
    if not is_signed:
        raise Untrusted("no root of that organisation signed the revocation list")
    if parsed.next_update_utc is None:
        raise Untrusted("the revocation list does not say for how long it is good")
    if len(parsed) > MAX_ENTRIES:
        raise TooLong(f"the revocation list has over {MAX_ENTRIES} entries")
    _check_whole(parsed)
    serials = frozenset(entry.serial_number for entry in parsed)
    made = RevocationList(
        crl=crl,
        certificates=(),
        addresses=frozenset(),
        serials=serials,
        digest=hashlib.sha256(",".join(f"{serial:x}" for serial in sorted(serials)).encode()).digest(),
        made_ms=int(parsed.last_update_utc.timestamp() * _MILLISECONDS),
        good_until_ms=int(parsed.next_update_utc.timestamp() * _MILLISECONDS),
    )
    if known is not None and known.serials == serials:
        _check_bytes(crl, known.certificates)
        return replace(made, certificates=known.certificates, addresses=known.addresses)
    found: dict[int, tuple[bytes, x509.Certificate]] = {}
    try:
        for der in revoked:
            certificate = certificates.parse_der(der)
            found[certificate.serial_number] = (der, certificate)
    except ValueError as error:
        raise Untrusted("what comes with the revocation list is no certificate in DER") from error
    if missing := len(serials - found.keys()):
        raise Untrusted(f"{missing} entries of the revocation list come without their certificates")
    named = [found[serial] for serial in sorted(serials)]
    _check_bytes(crl, [der for der, _ in named])
    checked = frozenset(known.certificates if known is not None else ())
    for der, certificate in named:
        if der not in checked:
            certificates.check_issued(certificate, roots_pem)
    return replace(
        made,
        certificates=tuple(der for der, _ in named),
        addresses=frozenset(certificates.common_name(certificate) for _, certificate in named),
    )


def _check_bytes(crl: bytes, named: Iterable[bytes]) -> None:
    if len(crl) + sum(map(len, named)) > MAX_BYTES:
        raise TooLong(f"the revocation list and its certificates have over {MAX_BYTES} bytes")


def _check_whole(crl: x509.CertificateRevocationList) -> None:
    """That it names everybody who is revoked. Raises Untrusted.

    A delta list has the changes alone, an indirect one or one of some certificates says so critically, and so
    does whatever may be defined one day: taken as whole, it would let those back in whom it leaves out.
    """
    try:
        of_the_list = list(crl.extensions)
        of_entries = [extension for entry in crl for extension in entry.extensions]
    except (ValueError, x509.DuplicateExtension) as error:
        raise Untrusted("the extensions of the revocation list cannot be read") from error
    if any(_restricts(one, _KNOWN) for one in of_the_list) or any(
        _restricts(one, _KNOWN_OF_ENTRIES) for one in of_entries
    ):
        raise Untrusted(
            "the revocation list is a part of one (a delta, or of some), or says what is not known"
        )


def _restricts(
    extension: x509.Extension[x509.ExtensionType], known: frozenset[x509.ObjectIdentifier]
) -> bool:
    always = (ExtensionOID.DELTA_CRL_INDICATOR, ExtensionOID.ISSUING_DISTRIBUTION_POINT)
    return extension.oid in always or (extension.critical and extension.oid not in known)


def _signed_by(crl: x509.CertificateRevocationList, root: x509.Certificate) -> bool:
    return crl.issuer == root.subject and crl.is_signature_valid(certificates.public_key(root))
