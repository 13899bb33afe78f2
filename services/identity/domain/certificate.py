"""Enrolment certificates: what they must contain to be accepted by the channel."""

from __future__ import annotations

import json
from typing import Any, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cbmdhi.protocol import certificates, enrolment
from cbmdhi.protocol.enrolment import ATTRIBUTES_OID

ROLE_ATTRIBUTE = "cbmdhi.role"


class NotThatCertificate(Exception):
    """The certificate does not contain what it must."""


def role_of(certificate: x509.Certificate) -> str:
    """The role that the CA put into the certificate; empty when there is none."""
    try:
        extension = certificate.extensions.get_extension_for_oid(ATTRIBUTES_OID).value
        document: Any = json.loads(cast(x509.UnrecognizedExtension, extension).value)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ""
    attributes: Any = cast(dict[str, Any], document).get("attrs") if isinstance(document, dict) else None
    role: Any = cast(dict[str, Any], attributes).get(ROLE_ATTRIBUTE) if isinstance(attributes, dict) else None
    return role if isinstance(role, str) else ""


def check(certificate: x509.Certificate, *, address: str, spki: bytes, roots_pem: str) -> None:
    """Check key, common name and issuer; the caller checks the role. Raises NotThatCertificate."""
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise NotThatCertificate("its key is not one that the mesh knows") from error
    if key != spki:
        raise NotThatCertificate("it is for another key")
    try:
        enrolment.check(certificate, address)
    except enrolment.NamesSomebody as error:
        raise NotThatCertificate(str(error)) from error
    try:
        certificates.check_issued(certificate, roots_pem)
    except (certificates.Untrusted, ValueError) as error:
        raise NotThatCertificate("it was not issued by the member's Fabric CA") from error
