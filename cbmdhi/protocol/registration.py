"""An identity's keys, checked by the registration that it signed itself.

A document that a service hands out is that service's word. The signed RegisterIdentity is not: the signer's
address is the hash of the key that signed it, and the certificate in it is a member's Fabric CA's.
"""

from __future__ import annotations

import json
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import UnrecognizedExtension

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import certificates, command, signature
from cbmdhi.protocol.enrolment import ATTRIBUTES_OID


class NotCertified(Exception):
    """The document's keys are not those that the identity registered."""


def check_keys(document: IdentityDocument, registration: pb.SignedCommand) -> None:
    """Check that the document's keys are those that the owner of its address signed. Raises NotCertified."""
    body = _body(registration)
    _check_self_signed(document.address, registration, body)
    registered = (body.signing_public_key, body.hpke_public_key, body.role, body.home_msp)
    if registered != (
        document.signing_public_key,
        document.hpke_public_key,
        document.role,
        document.home_msp,
    ):
        raise NotCertified("the document names other keys, another role or another member")
    if list(document.custodians) != list(body.custodians):
        raise NotCertified("the document names other custodians")


def check_role(document: IdentityDocument, registration: pb.SignedCommand, roots: dict[str, str]) -> None:
    """Check the keys, and that the home member's Fabric CA certified them for that role.

    `roots`: PEM of each member's identity CA, by MSP id. Raises NotCertified.
    """
    check_keys(document, registration)
    _check_certificate(_body(registration), roots)


def certified_key(address: str, registration: pb.SignedCommand, roots: dict[str, str]) -> bytes:
    """The signing key (SPKI) of an address, by its own registration and the certificate of its home member's
    Fabric CA in it.

    `roots`: PEM of each member's identity CA, by MSP id. Raises NotCertified.
    """
    body = _body(registration)
    _check_self_signed(address, registration, body)
    _check_certificate(body, roots)
    return body.signing_public_key


def _check_self_signed(address: str, registration: pb.SignedCommand, body: pb.RegisterIdentity) -> None:
    if not address == registration.signer == body.address == addresses.of_spki(body.signing_public_key):
        raise NotCertified("the registration is another identity's")
    try:
        command.verify(registration, body.signing_public_key)
    except (signature.BadSignature, ValueError) as error:
        raise NotCertified("the registration's signature does not hold") from error


def _check_certificate(body: pb.RegisterIdentity, roots: dict[str, str]) -> None:
    try:
        certificate = certificates.parse_der(body.enrolment_certificate)
        certificates.check_issued(certificate, roots[body.home_msp])
    except (KeyError, ValueError, certificates.Untrusted) as error:
        raise NotCertified("no member's Fabric CA certified the identity") from error
    if _spki(certificate) != body.signing_public_key:
        raise NotCertified("the certificate is for another key")
    if _role(certificate) != pb.Role.Name(body.role).removeprefix("ROLE_").lower():
        raise NotCertified("the certificate is for another role")


def _body(registration: pb.SignedCommand) -> pb.RegisterIdentity:
    try:
        _, body = command.parse(registration)
    except command.MalformedCommand as error:
        raise NotCertified("there is no registration") from error
    if body.WhichOneof("body") != "register_identity":
        raise NotCertified("the command is no registration")
    return body.register_identity


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _role(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_oid(ATTRIBUTES_OID)
        return str(json.loads(cast(UnrecognizedExtension, extension.value).value)["attrs"]["cbmdhi.role"])
    except (x509.ExtensionNotFound, ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotCertified("the certificate has no role") from error
