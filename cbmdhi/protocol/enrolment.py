"""What an enrolment certificate may say: it goes to the channel with the registration, and stays there.

Lists of what is known to name nobody; everything else is refused, such as an e-mail address, a second name
or an affiliation. The chaincode has the same lists (chaincode/batch/certificate_contents.go), but what it
refuses may stand in a block all the same, beside neighbours that it accepts: so nothing is carried there that
does not pass here.
"""

from __future__ import annotations

import json
from typing import Any, cast

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

ATTRIBUTES_OID = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")
"""Where Fabric CA puts attributes: JSON, `{"attrs": {name: value}}`."""

_ROLES = frozenset(
    {"patient", "clinician", "administrator", "engine", "device", "researcher", "privacy_officer"}
)
_MAX_ATTRIBUTES_BYTES = 1024
_UNITS = frozenset({"signer"})
_EXTENSIONS = frozenset(
    {
        ATTRIBUTES_OID,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
    }
)


class NamesSomebody(Exception):
    """The certificate says more than who may have it."""


def check_der(der: bytes, address: str) -> None:
    """The same of DER bytes from anywhere. Raises NamesSomebody."""
    try:
        check(x509.load_der_x509_certificate(der), address)
    except (ValueError, x509.InvalidVersion) as error:
        raise NamesSomebody("it is no certificate") from error


def check(certificate: x509.Certificate, address: str) -> None:
    """Check that a certificate names the address and nobody else. Raises NamesSomebody."""
    try:
        _check(certificate, address)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise NamesSomebody("its names or extensions cannot be read") from error


def _check(certificate: x509.Certificate, address: str) -> None:
    names = [(name.oid, name.value) for name in certificate.subject]
    if [value for oid, value in names if oid == NameOID.COMMON_NAME] != [address]:
        raise NamesSomebody("its common name is not the address alone")
    for oid, value in names:
        if oid == NameOID.COMMON_NAME:
            continue
        if oid != NameOID.ORGANIZATIONAL_UNIT_NAME or value not in _UNITS:
            raise NamesSomebody("its subject says more than the address and the type")
    for extension in certificate.extensions:
        if extension.oid not in _EXTENSIONS:
            raise NamesSomebody("it has an extension of another kind, such as names of hosts or e-mail")
        if extension.oid == ATTRIBUTES_OID:
            _check_attributes(cast(x509.UnrecognizedExtension, extension.value).value, address)


def _check_attributes(raw: bytes, address: str) -> None:
    if len(raw) > _MAX_ATTRIBUTES_BYTES:
        raise NamesSomebody("its attributes are longer than those of a Fabric CA")
    try:
        document: Any = json.loads(raw)
    except RecursionError as error:
        raise NamesSomebody("its attributes are not those of a Fabric CA") from error
    # Exactly what Fabric CA writes: nothing twice, nothing beside it.
    if json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode() != raw:
        raise NamesSomebody("its attributes are not as a Fabric CA writes them")
    found: Any = cast(dict[str, Any], document).get("attrs") if isinstance(document, dict) else None
    if not isinstance(found, dict) or len(cast(dict[str, Any], document)) != 1:
        raise NamesSomebody("its attributes are not those of a Fabric CA")
    for name, value in cast(dict[str, Any], found).items():
        match name if isinstance(value, str) else "":
            case "cbmdhi.role":
                known = value in _ROLES
            case "hf.EnrollmentID":
                known = value == address
            case "hf.Type":
                known = value in _UNITS
            case "hf.Affiliation":
                known = value == ""
            case _:
                known = False
        if not known:
            raise NamesSomebody("it has an attribute, or a value of one, that the mesh does not know")
