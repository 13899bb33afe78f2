"""Enrolment: a certificate for the holder of the key, in the role that was given, and for nobody else."""

from __future__ import annotations

import asyncio

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import address as addresses
from services.identity.domain import certificate
from tests.support.fakes.fabric_ca import Root, Wallet, name_of
from tests.support.fakes.identity_member import (
    LAKESIDE,
    MERCY,
    PENDING,
    REJECTED,
    SUSPENDED,
    Member,
    refused,
)

INVALID = code_pb2.CODE_INVALID


def invite(wallet: Wallet, role: Role = Role.ROLE_CLINICIAN) -> identity_pb2.InviteRequest:
    return identity_pb2.InviteRequest(address=wallet.address, role=role)


def enrol(csr_pem: str, role: Role = Role.ROLE_PATIENT, secret: str = "") -> identity_pb2.EnrolRequest:
    return identity_pb2.EnrolRequest(csr_pem=csr_pem, role=role, secret=secret)


def role_in(answer: identity_pb2.EnrolResponse) -> str:
    return certificate.role_of(x509.load_pem_x509_certificate(answer.certificate_pem.encode()))


@pytest.fixture
def member() -> Member:
    return Member()


@pytest.fixture
def administrator(member: Member) -> Wallet:
    return member.administrator()


async def secret_for(member: Member, by: Wallet, wallet: Wallet, role: Role = Role.ROLE_CLINICIAN) -> str:
    request = member.signed(invite(wallet, role), by)
    return (await member.enrolment.Invite(request, member.by(by))).secret


async def test_a_patient_enrols_without_an_invitation_and_as_often_as_needed(member: Member) -> None:
    patient = Wallet()
    answers = [await member.enrolment.Enrol(enrol(patient.csr()), member.by()) for _ in range(3)]
    assert [role_in(answer) for answer in answers] == ["patient"] * 3
    issued = x509.load_pem_x509_certificate(answers[0].certificate_pem.encode())
    certificate.check(
        issued,
        address=patient.address,
        spki=patient.spki,
        roots_pem=answers[0].ca_certificates_pem,
    )


async def test_an_invited_clinician_enrols_with_the_secret(member: Member, administrator: Wallet) -> None:
    clinician = Wallet()
    secret = await secret_for(member, administrator, clinician)
    request = enrol(clinician.csr(), Role.ROLE_CLINICIAN, secret)
    assert role_in(await member.enrolment.Enrol(request, member.by())) == "clinician"
    assert role_in(await member.enrolment.Enrol(request, member.by())) == "clinician"


async def test_without_the_secret_nobody_is_a_clinician(member: Member, administrator: Wallet) -> None:
    clinician = Wallet()
    await secret_for(member, administrator, clinician)
    for secret in ("", "guessed"):
        request = enrol(clinician.csr(), Role.ROLE_CLINICIAN, secret)
        error = await refused(member.enrolment.Enrol(request, member.by()))
        assert (error.code, error.path) == (code_pb2.CODE_UNAUTHENTICATED, "secret")


async def test_the_patients_way_in_does_not_hand_out_the_role_of_an_invitation(
    member: Member, administrator: Wallet
) -> None:
    clinician = Wallet()
    secret = await secret_for(member, administrator, clinician)
    error = await refused(member.enrolment.Enrol(enrol(clinician.csr()), member.by()))
    assert error.code == code_pb2.CODE_CONFLICT
    assert member.ca.ids[clinician.address].secret == secret


async def test_a_stolen_secret_is_worth_nothing_without_the_key(
    member: Member, administrator: Wallet
) -> None:
    clinician, thief = Wallet(), Wallet()
    secret = await secret_for(member, administrator, clinician)
    for csr_pem in (thief.csr(), thief.csr(common_name=clinician.address)):
        request = enrol(csr_pem, Role.ROLE_CLINICIAN, secret)
        error = await refused(member.enrolment.Enrol(request, member.by()))
        assert error.code in (INVALID, code_pb2.CODE_UNAUTHENTICATED)


async def test_an_invitation_to_one_role_does_not_enrol_in_another(
    member: Member, administrator: Wallet
) -> None:
    clinician = Wallet()
    secret = await secret_for(member, administrator, clinician)
    request = enrol(clinician.csr(), Role.ROLE_ADMINISTRATOR, secret)
    error = await refused(member.enrolment.Enrol(request, member.by()))
    assert (error.code, error.path) == (INVALID, "role")


async def test_a_second_invitation_replaces_the_secret_of_the_first(
    member: Member, administrator: Wallet
) -> None:
    clinician = Wallet()
    first = await secret_for(member, administrator, clinician)
    second = await secret_for(member, administrator, clinician)
    error = await refused(
        member.enrolment.Enrol(enrol(clinician.csr(), Role.ROLE_CLINICIAN, first), member.by())
    )
    assert error.code == code_pb2.CODE_UNAUTHENTICATED
    answer = await member.enrolment.Enrol(enrol(clinician.csr(), Role.ROLE_CLINICIAN, second), member.by())
    assert role_in(answer) == "clinician"


async def test_a_used_up_invitation_is_renewed_by_another(member: Member, administrator: Wallet) -> None:
    clinician = Wallet()
    first = await secret_for(member, administrator, clinician)
    used_up = enrol(clinician.csr(), Role.ROLE_CLINICIAN, first)
    for _ in range(10):
        await member.enrolment.Enrol(used_up, member.by())
    assert (await refused(member.enrolment.Enrol(used_up, member.by()))).code == code_pb2.CODE_UNAUTHENTICATED

    second = await secret_for(member, administrator, clinician)
    answer = await member.enrolment.Enrol(enrol(clinician.csr(), Role.ROLE_CLINICIAN, second), member.by())
    assert role_in(answer) == "clinician"


async def test_an_invitation_of_anybody_but_an_active_administrator_of_this_member_is_refused(
    member: Member,
) -> None:
    clinician = Wallet()
    member.ledger.put(clinician, Role.ROLE_CLINICIAN)
    callers = (
        (clinician, code_pb2.CODE_FORBIDDEN),
        (Wallet(), code_pb2.CODE_UNKNOWN_SIGNER),
        (member.administrator(home=LAKESIDE), code_pb2.CODE_FORBIDDEN),
        (member.administrator(SUSPENDED), code_pb2.CODE_INACTIVE_SIGNER),
        (member.administrator(PENDING), code_pb2.CODE_INACTIVE_SIGNER),
    )
    for caller, code in callers:
        # What the gateway says about the role does not count: the channel does.
        assert (await refused(secret_for(member, caller, Wallet()))).code == code
    assert not member.ca.ids


async def test_an_invitation_without_a_session_is_refused(member: Member, administrator: Wallet) -> None:
    request = member.signed(invite(Wallet()), administrator)
    error = await refused(member.enrolment.Invite(request, member.by()))
    assert error.code == code_pb2.CODE_UNAUTHENTICATED


async def test_nobody_is_invited_on_the_gateways_word(member: Member, administrator: Wallet) -> None:
    stranger, meant = Wallet(), Wallet()
    moved = member.signed(invite(meant), administrator)
    moved.address = stranger.address
    for request, by, code in (
        (invite(stranger), administrator, code_pb2.CODE_UNAUTHENTICATED),
        (member.signed(invite(stranger), Wallet()), administrator, code_pb2.CODE_FORBIDDEN),
        (
            member.signed(invite(stranger), administrator, msp=LAKESIDE),
            administrator,
            code_pb2.CODE_FORBIDDEN,
        ),
    ):
        assert (await refused(member.enrolment.Invite(request, member.by(by)))).code == code
    assert not member.ca.ids
    # Whom the administrator meant is invited, whatever else stands in the request, and once.
    await member.enrolment.Invite(moved, member.by(administrator))
    assert set(member.ca.ids) == {meant.address}
    error = await refused(member.enrolment.Invite(moved, member.by(administrator)))
    assert error.code == code_pb2.CODE_CONFLICT


async def test_only_the_own_gateway_speaks_for_an_administrator(
    member: Member, administrator: Wallet
) -> None:
    for msp, service in ((LAKESIDE, "gateway"), (MERCY, "notify")):
        context = member.by(administrator, msp=msp, service=service)
        request = member.signed(invite(Wallet()), administrator)
        error = await refused(member.enrolment.Invite(request, context))
        assert error.code == code_pb2.CODE_FORBIDDEN


@pytest.mark.parametrize("role", [Role.ROLE_PATIENT, Role.ROLE_UNSPECIFIED, 99])
async def test_nobody_is_invited_as_a_patient_or_as_nothing(
    member: Member, administrator: Wallet, role: Role
) -> None:
    error = await refused(secret_for(member, administrator, Wallet(), role))
    assert (error.code, error.path) == (INVALID, "role")


async def test_who_is_on_the_channel_already_is_not_invited_again(
    member: Member, administrator: Wallet
) -> None:
    known = Wallet()
    member.ledger.put(known, Role.ROLE_CLINICIAN)
    error = await refused(secret_for(member, administrator, known))
    assert error.code == code_pb2.CODE_CONFLICT

    member.ledger.put(known, Role.ROLE_CLINICIAN, REJECTED)
    assert await secret_for(member, administrator, known)


async def test_a_request_whose_key_is_not_the_address_is_refused(member: Member) -> None:
    error = await refused(
        member.enrolment.Enrol(enrol(Wallet().csr(common_name=Wallet().address)), member.by())
    )
    assert (error.code, error.path) == (INVALID, "csr_pem")


def _tampered() -> str:
    raw = bytearray(x509.load_pem_x509_csr(Wallet().csr().encode()).public_bytes(Encoding.DER))
    raw[-1] ^= 1
    return x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM).decode()


def _with(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of(addresses.of_spki(spki)))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _asking_for_a_host() -> str:
    wallet = Wallet()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of(wallet.address))
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.DNSName("jane.example")]), critical=False
    )
    return builder.sign(wallet.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "csr_pem",
    [
        pytest.param("", id="empty"),
        pytest.param(
            "-----BEGIN CERTIFICATE REQUEST-----\nnonsense\n-----END CERTIFICATE REQUEST-----\n",
            id="nonsense",
        ),
        pytest.param("x" * 9000, id="oversize"),
        pytest.param(_tampered(), id="signed by another"),
        pytest.param(_with(ec.generate_private_key(ec.SECP384R1())), id="another curve"),
        pytest.param(_with(rsa.generate_private_key(65537, 2048)), id="RSA"),
        pytest.param(_asking_for_a_host(), id="asking for a host"),
        pytest.param(
            Wallet().csr("", x509.NameAttribute(x509.NameOID.GIVEN_NAME, "Jane")), id="naming a person"
        ),
    ],
)
async def test_a_request_that_is_not_a_wallets_never_reaches_the_ca(member: Member, csr_pem: str) -> None:
    error = await refused(member.enrolment.Enrol(enrol(csr_pem), member.by()))
    assert (error.code, error.path) == (INVALID, "csr_pem")
    assert not member.ca.ids


async def test_too_many_enrolments_are_told_when_to_come_back() -> None:
    member = Member(at_once=2)
    for _ in range(2):
        await member.enrolment.Enrol(enrol(Wallet().csr()), member.by())
    error = await refused(member.enrolment.Enrol(enrol(Wallet().csr()), member.by()))
    assert error.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert 0 < error.retry_after_ms <= 1000


async def test_a_flood_of_patients_does_not_keep_the_invited_out() -> None:
    member = Member(at_once=1)
    clinician = Wallet()
    secret = await secret_for(member, member.administrator(), clinician)
    await member.enrolment.Enrol(enrol(Wallet().csr()), member.by())
    await refused(member.enrolment.Enrol(enrol(Wallet().csr()), member.by()))
    answer = await member.enrolment.Enrol(enrol(clinician.csr(), Role.ROLE_CLINICIAN, secret), member.by())
    assert role_in(answer) == "clinician"


async def test_one_patient_enrolling_twice_at_the_same_moment_gets_two_certificates(member: Member) -> None:
    request = enrol(Wallet().csr())
    answers = await asyncio.gather(*(member.enrolment.Enrol(request, member.by()) for _ in range(8)))
    assert len({answer.certificate_pem for answer in answers}) == 8


async def test_a_secret_that_another_replica_replaced_under_way_is_made_anew(member: Member) -> None:
    patient = Wallet()
    member.ca.meanwhile = [patient.address]
    assert role_in(await member.enrolment.Enrol(enrol(patient.csr()), member.by())) == "patient"
    assert not member.ca.meanwhile


async def test_a_ca_that_is_away_is_said_to_be_unavailable_with_a_delay(member: Member) -> None:
    member.ca.away = True
    error = await refused(member.enrolment.Enrol(enrol(Wallet().csr()), member.by()))
    assert error.code == code_pb2.CODE_UNAVAILABLE
    assert error.retry_after_ms > 0


async def test_a_certificate_for_another_key_or_of_another_root_does_not_leave(member: Member) -> None:
    member.ca.root = Root.new("not the one whose chain is shown")
    right_chain = Root.new("the chain").pem
    real = member.ca.enrol

    async def with_another_chain(*args: str):
        enrolled = await real(*args)
        return type(enrolled)(enrolled.certificate_pem, right_chain)

    member.ca.enrol = with_another_chain  # type: ignore[method-assign]
    error = await refused(member.enrolment.Enrol(enrol(Wallet().csr()), member.by()))
    assert error.code == code_pb2.CODE_INTERNAL
