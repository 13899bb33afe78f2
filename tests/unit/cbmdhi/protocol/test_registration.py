"""Nobody who hands out an identity's document can put another key in its place."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import command, hpke, registration, signature
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_blocks import Organisation, issue_certificate

ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")


class Somebody:
    """An administrator of mercy with a certificate of its CA."""

    def __init__(self, ca: Organisation | None = None, certified_as: str = "administrator") -> None:
        self.mercy = Organisation("MercyMSP")
        self.signer = command.KeySigner(signature.new_private_key())
        self.hpke_public = hpke.generate()[1]
        attributes = json.dumps({"attrs": {"cbmdhi.role": certified_as}}).encode()
        certificate = issue_certificate(
            ca or self.mercy,
            self.signer.address,
            self.signer.private_key.public_key(),
            x509.UnrecognizedExtension(ATTRIBUTES, attributes),
        )
        body = pb.RegisterIdentity(
            address=self.signer.address,
            role=pb.ROLE_ADMINISTRATOR,
            home_msp="MercyMSP",
            signing_public_key=signature.spki(self.signer.private_key.public_key()),
            hpke_public_key=self.hpke_public,
            enrolment_certificate=certificate.public_bytes(Encoding.DER),
        )
        self.registration = self.signer.sign_command(command.make(body, channel=CHANNEL))
        self.document = IdentityDocument(
            address=body.address,
            role=body.role,
            home_msp=body.home_msp,
            signing_public_key=body.signing_public_key,
            hpke_public_key=body.hpke_public_key,
        )

    @property
    def roots(self) -> dict[str, str]:
        return {"MercyMSP": self.mercy.pem}


def test_a_document_that_its_owner_registered_is_believed() -> None:
    somebody = Somebody()
    registration.check_keys(somebody.document, somebody.registration)
    registration.check_role(somebody.document, somebody.registration, somebody.roots)


def another_key_to_read_with(document: IdentityDocument) -> None:
    document.hpke_public_key = hpke.generate()[1]


def another_key_to_sign_with(document: IdentityDocument) -> None:
    document.signing_public_key = signature.spki(signature.new_private_key().public_key())


def another_role(document: IdentityDocument) -> None:
    document.role = pb.ROLE_CLINICIAN


def another_home(document: IdentityDocument) -> None:
    document.home_msp = "LakesideMSP"


def another_custodian(document: IdentityDocument) -> None:
    document.custodians.add(msp="LakesideMSP")


def another_address(document: IdentityDocument) -> None:
    document.address = Somebody().document.address


@pytest.mark.parametrize(
    "change",
    [
        another_key_to_read_with,
        another_key_to_sign_with,
        another_role,
        another_home,
        another_custodian,
        another_address,
    ],
)
def test_a_changed_document_is_not_believed(change: Callable[[IdentityDocument], None]) -> None:
    somebody = Somebody()
    change(somebody.document)
    with pytest.raises(registration.NotCertified):
        registration.check_keys(somebody.document, somebody.registration)


def test_somebody_elses_registration_certifies_nothing() -> None:
    with pytest.raises(registration.NotCertified):
        registration.check_keys(Somebody().document, Somebody().registration)


def test_a_registration_with_a_changed_bit_certifies_nothing() -> None:
    somebody = Somebody()
    raw = somebody.registration.command
    somebody.registration.command = raw[:-1] + bytes([raw[-1] ^ 1])
    with pytest.raises(registration.NotCertified):
        registration.check_keys(somebody.document, somebody.registration)


def test_a_missing_registration_certifies_nothing() -> None:
    with pytest.raises(registration.NotCertified):
        registration.check_keys(Somebody().document, pb.SignedCommand())


def test_who_made_itself_administrator_without_a_members_ca_is_none() -> None:
    imposter = Somebody(ca=Organisation("MercyMSP"))
    registration.check_keys(imposter.document, imposter.registration)
    with pytest.raises(registration.NotCertified):
        registration.check_role(imposter.document, imposter.registration, imposter.roots)


def test_who_is_certified_for_another_role_is_no_administrator() -> None:
    clinician = Somebody(certified_as="clinician")
    with pytest.raises(registration.NotCertified):
        registration.check_role(clinician.document, clinician.registration, clinician.roots)
