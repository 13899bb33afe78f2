"""A certificate's role is what the CA wrote, in the one form in which it writes it; anything else is none."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cbmdhi.protocol import signature
from services.identity.domain import certificate
from tests.support.fakes.fabric_blocks import Organisation, issue_certificate

MERCY = Organisation("MercyMSP")
KEY = signature.new_private_key()


def with_attributes(raw: bytes) -> x509.Certificate:
    extension = x509.UnrecognizedExtension(certificate.ATTRIBUTES_OID, raw)
    return issue_certificate(MERCY, "cb1a", KEY.public_key(), extension)


def test_the_role_is_the_one_that_the_ca_wrote() -> None:
    assert certificate.role_of(with_attributes(b'{"attrs":{"cbmdhi.role":"clinician"}}')) == "clinician"


@pytest.mark.parametrize(
    "raw", [b"\xff", b"[]", b"7", b"{}", b'{"attrs":[]}', b'{"attrs":{}}', b'{"attrs":{"cbmdhi.role":7}}']
)
def test_what_is_no_role_is_none(raw: bytes) -> None:
    assert certificate.role_of(with_attributes(raw)) == ""


def test_a_certificate_without_attributes_has_no_role() -> None:
    assert certificate.role_of(MERCY.root) == ""


def test_a_certificate_that_names_somebody_is_refused_with_what_it_says() -> None:
    named = x509.SubjectAlternativeName([x509.RFC822Name("jane.doe@mercy.example")])
    one = issue_certificate(MERCY, "cb1a", KEY.public_key(), named)
    assert one.signature_hash_algorithm.name == hashes.SHA256.name  # type: ignore[union-attr]
    with pytest.raises(certificate.NotThatCertificate, match="its subject says more"):
        certificate.check(one, address="cb1a", spki=signature.spki(KEY.public_key()), roots_pem=MERCY.pem)
