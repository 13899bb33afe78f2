"""An enrolment certificate names the address and nobody: it stays on the channel."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import address, enrolment, signature

NAME, UNIT, EMAIL = NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.EMAIL_ADDRESS
KEY = signature.new_private_key()
ADDRESS = address.of_public_key(KEY.public_key())
AS_ENROLLED: dict[str, Any] = {
    "cbmdhi.role": "clinician",
    "hf.Affiliation": "",
    "hf.EnrollmentID": ADDRESS,
    "hf.Type": "signer",
}


def issued(
    subject: Sequence[tuple[x509.ObjectIdentifier, str]],
    attributes: bytes = b"",
    extension: x509.ExtensionType | None = None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]))
        .issuer_name(x509.Name([x509.NameAttribute(NAME, "ca.mercy")]))
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), critical=False)
    )
    if attributes:
        unknown = x509.UnrecognizedExtension(enrolment.ATTRIBUTES_OID, attributes)
        builder = builder.add_extension(unknown, critical=False)
    if extension is not None:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def written(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def test_a_certificate_as_fabric_ca_issues_it_may_be_carried() -> None:
    enrolment.check(issued([(UNIT, "signer"), (NAME, ADDRESS)], written({"attrs": AS_ENROLLED})), ADDRESS)
    enrolment.check(issued([(NAME, ADDRESS)]), ADDRESS)


@pytest.mark.parametrize(
    "subject",
    [
        [(NAME, "Jane Doe")],
        [(NAME, ADDRESS), (NAME, "Jane Doe")],
        [(NAME, ADDRESS), (EMAIL, "jane.doe@mercy.example")],
        [(NAME, ADDRESS), (UNIT, "oncology")],
        [(NAME, ADDRESS), (NameOID.ORGANIZATION_NAME, "Mercy oncology")],
        [(UNIT, "signer")],
        # A peer would hear it.
        [(UNIT, "client"), (NAME, ADDRESS)],
    ],
)
def test_a_subject_that_says_more_is_not_carried(subject: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    with pytest.raises(enrolment.NamesSomebody):
        enrolment.check(issued(subject), ADDRESS)


@pytest.mark.parametrize(
    "extension",
    [
        x509.SubjectAlternativeName([x509.RFC822Name("jane.doe@mercy.example")]),
        x509.SubjectAlternativeName([x509.DNSName("janes-laptop")]),
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"Jane Doe"),
    ],
)
def test_an_extension_of_another_kind_is_not_carried(extension: x509.ExtensionType) -> None:
    with pytest.raises(enrolment.NamesSomebody):
        enrolment.check(issued([(NAME, ADDRESS)], extension=extension), ADDRESS)


@pytest.mark.parametrize(
    "raw",
    [
        written({"attrs": {**AS_ENROLLED, "email": "jane.doe@mercy.example"}}),
        written({"attrs": {**AS_ENROLLED, "hf.Affiliation": "mercy.oncology"}}),
        written({"attrs": {**AS_ENROLLED, "hf.EnrollmentID": "jane.doe"}}),
        written({"attrs": {**AS_ENROLLED, "hf.Type": "jane.doe"}}),
        written({"attrs": {**AS_ENROLLED, "cbmdhi.role": "Jane Doe"}}),
        written({"attrs": {**AS_ENROLLED, "cbmdhi.role": ["Jane Doe"]}}),
        written({"attrs": AS_ENROLLED, "name": "Jane Doe"}),
        written({"attrs": "Jane Doe"}),
        written(["attrs"]),
        b'{"attrs":{"cbmdhi.role":"Jane Doe","cbmdhi.role":"clinician"}}',
        b'{"attrs": {}}',
        # Not in the order in which a Fabric CA writes them.
        b'{"attrs":{"hf.Type":"signer","cbmdhi.role":"clinician"}}',
        # No reader goes as deep as that, within what attributes may have and beyond it.
        b"[" * 1_000,
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_attributes_that_say_more_are_not_carried(raw: bytes) -> None:
    with pytest.raises(enrolment.NamesSomebody):
        enrolment.check(issued([(NAME, ADDRESS)], raw), ADDRESS)


def test_der_from_anywhere_is_looked_at_as_a_certificate_is() -> None:
    good, other = issued([(NAME, ADDRESS)]), issued([(NAME, "Jane Doe")])
    enrolment.check_der(good.public_bytes(Encoding.DER), ADDRESS)
    for der in (other.public_bytes(Encoding.DER), b"", b"\x30\x00", good.public_bytes(Encoding.PEM)):
        with pytest.raises(enrolment.NamesSomebody):
            enrolment.check_der(der, ADDRESS)


def test_a_certificate_that_was_changed_anywhere_is_refused_or_names_nobody_else() -> None:
    der = issued([(UNIT, "signer"), (NAME, ADDRESS)], written({"attrs": AS_ENROLLED})).public_bytes(
        Encoding.DER
    )
    for at in range(len(der)):
        changed = der[:at] + bytes((der[at] ^ 1,)) + der[at + 1 :]
        try:
            enrolment.check_der(changed, ADDRESS)
        except enrolment.NamesSomebody:
            continue
        assert ADDRESS.encode() in changed


def test_the_roles_and_the_type_of_the_mesh_are_known() -> None:
    for role in pb.Role.keys()[1:]:
        known = {**AS_ENROLLED, "cbmdhi.role": role.removeprefix("ROLE_").lower()}
        enrolment.check(issued([(NAME, ADDRESS)], written({"attrs": known})), ADDRESS)
