"""Nobody who hands out an identity's document can put another key in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import address, command, hpke, registration, signature
from tests.support.channel import CHANNEL
from tests.support.fakes.fabric_blocks import Organisation, issue_certificate

ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")


class Somebody:
    """An administrator of mercy with a certificate of its CA."""

    def __init__(
        self, ca: Organisation | None = None, certified_as: str = "administrator", attributes: bytes = b""
    ) -> None:
        self.mercy = Organisation("MercyMSP")
        self.signer = command.KeySigner(signature.new_private_key())
        self.hpke_public = hpke.generate()[1]
        attributes = attributes or json.dumps({"attrs": {"cbmdhi.role": certified_as}}).encode()
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


def test_who_registers_a_key_of_a_kind_that_nobody_knows_certifies_nothing() -> None:
    spki = signature.spki(signature.new_private_key().public_key())
    unknown = spki.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f"))
    body = pb.RegisterIdentity(address=address.of_spki(unknown), signing_public_key=unknown)
    signed = pb.SignedCommand(command=command.make(body, channel=CHANNEL), signer=body.address)
    with pytest.raises(registration.NotCertified):
        registration.certified_key(body.address, signed, Somebody().roots)


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


def test_the_key_of_an_address_is_the_one_that_it_registered_and_a_members_ca_certified() -> None:
    somebody = Somebody()
    found = registration.certified_key(somebody.document.address, somebody.registration, somebody.roots)
    assert found == somebody.document.signing_public_key


@pytest.mark.parametrize(
    ("wrong", "change"),
    [
        ("another address asked for", lambda one: {"address": Somebody().document.address}),
        ("somebody else's registration", lambda one: {"registration": Somebody().registration}),
        ("a home that is no member", lambda one: {"roots": {"LakesideMSP": one.mercy.pem}}),
        ("a member of that name with another CA", lambda one: {"roots": Somebody().roots}),
    ],
)
def test_no_other_key_is_taken_for_it(wrong: str, change: Callable[[Somebody], dict[str, Any]]) -> None:
    somebody = Somebody()
    asked: dict[str, Any] = {
        "address": somebody.document.address,
        "registration": somebody.registration,
        "roots": somebody.roots,
    }
    with pytest.raises(registration.NotCertified):
        registration.certified_key(**asked | change(somebody))


def test_a_certificate_that_was_changed_anywhere_certifies_nobody() -> None:
    somebody = Somebody()
    _, body = command.parse(somebody.registration)
    certificate = body.register_identity.enrolment_certificate
    # The last bytes are the signature's, of which a byte says how many bits count.
    for at in range(len(certificate) - 80):
        changed = bytearray(certificate)
        changed[at] ^= 1
        body.register_identity.enrolment_certificate = bytes(changed)
        signed = somebody.signer.sign_command(command.make(body.register_identity, channel=CHANNEL))
        with pytest.raises(registration.NotCertified):
            registration.certified_key(somebody.document.address, signed, somebody.roots)


@pytest.mark.parametrize(
    "attributes", [b"\xff", b"[]", b"{}", b'{"attrs":{}}', b'{"attrs":[]}', b"[" * 1_000]
)
def test_who_is_certified_for_no_role_has_none(attributes: bytes) -> None:
    somebody = Somebody(attributes=attributes)
    with pytest.raises(registration.NotCertified):
        registration.check_role(somebody.document, somebody.registration, somebody.roots)
