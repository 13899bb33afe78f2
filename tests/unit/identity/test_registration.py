"""Registration and review: what cannot be accepted leaves nothing behind; who waits for whom."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import (
    Consent,
    Custodian,
    RegisterIdentity,
    Role,
    SignedDelegation,
)
from cbmdhi.command.v1.state_pb2 import SealedKey
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import command
from cbmdhi.protocol.channel import Channel
from tests.support.channel import ELSEWHERE, REUSED_NAME
from tests.unit.identity.authority import Wallet
from tests.unit.identity.member import (
    CHANNEL,
    LAKESIDE,
    MERCY,
    PENDING,
    REJECTED,
    SUSPENDED,
    Member,
    refused,
)

INVALID = code_pb2.CODE_INVALID


@pytest.fixture
def member() -> Member:
    return Member()


async def register(member: Member, request: identity_pb2.RegisterRequest) -> identity_pb2.RegisterResponse:
    return await member.registration.Register(request, member.by())


async def rejected(member: Member, request: identity_pb2.RegisterRequest) -> Any:
    """The error, after making sure that nothing was kept and nothing submitted."""
    error = await refused(register(member, request))
    assert not member.storage.blobs
    assert not member.ledger.submitted
    return error


async def test_a_patients_registration_keeps_the_evidence_and_goes_to_the_channel_as_it_is(
    member: Member,
) -> None:
    request = member.registration_of(Wallet())
    answer = await register(member, request)
    assert answer.receipt.code == code_pb2.CODE_OK
    assert list(member.storage.blobs.values()) == [request.sealed_evidence]
    ((submitted, keys),) = member.ledger.submitted
    assert submitted == request.command
    assert keys == list(request.sealed_keys)


async def test_evidence_that_does_not_match_its_cid_is_refused(member: Member) -> None:
    request = member.registration_of(Wallet())
    request.sealed_evidence += b"!"
    error = await rejected(member, request)
    assert error.code == INVALID
    assert error.path.endswith("evidence_cid")


async def test_a_patient_without_custodians_is_refused(member: Member) -> None:
    error = await rejected(member, member.registration_of(Wallet(), custodians=[]))
    assert (error.code, error.path) == (INVALID, "body.register_identity.custodians")


async def test_evidence_is_what_the_patient_signed_for_or_not_there_at_all(member: Member) -> None:
    unsigned = member.registration_of(Wallet(), evidence_cid="")
    withheld = member.registration_of(Wallet())
    withheld.sealed_evidence = b""
    for request in (unsigned, withheld):
        error = await rejected(member, request)
        assert (error.code, error.path) == (INVALID, "body.register_identity.evidence_cid")
    # A hospital that saw the passport may need no copy of it.
    unsigned.sealed_evidence = b""
    await register(member, unsigned)
    assert len(member.ledger.submitted) == 1


async def test_each_custodian_gets_the_key_that_the_command_names(member: Member) -> None:
    another = SealedKey(msp=LAKESIDE, key="rk/another", sealed=b"sealed record key")
    for keys in ([], [another]):
        request = member.registration_of(Wallet())
        del request.sealed_keys[:]
        request.sealed_keys.extend(keys)
        assert (await rejected(member, request)).path == "sealed_keys"
    request = member.registration_of(Wallet())
    request.sealed_keys[0].sealed = b"exchanged under way"
    assert (await rejected(member, request)).path == "sealed_keys"


async def test_a_custodian_is_named_once(member: Member) -> None:
    patient = Wallet()
    digest = hashlib.sha256(b"sealed record key").digest()
    twice = [Custodian(msp=LAKESIDE, sealed_key_sha256=digest)] * 2
    assert (await rejected(member, member.registration_of(patient, custodians=twice))).code == INVALID


async def test_a_registration_signed_by_another_key_is_refused(member: Member) -> None:
    request = member.registration_of(Wallet())
    request.command.signature = member.registration_of(Wallet()).command.signature
    assert (await rejected(member, request)).code == code_pb2.CODE_BAD_SIGNATURE


async def test_nobody_registers_in_another_name(member: Member) -> None:
    victim = Wallet()
    for change, field in (
        ({"address": victim.address}, "address"),
        ({"signing_public_key": victim.spki}, "address"),
        ({"signing_public_key": b"no key"}, "signing_public_key"),
    ):
        error = await rejected(member, member.registration_of(Wallet(), **change))
        assert (error.code, error.path) == (INVALID, f"body.register_identity.{field}")
    request = member.registration_of(Wallet())
    request.command.signer = victim.address
    assert (await rejected(member, request)).code == INVALID


async def test_a_certificate_that_does_not_fit_is_refused(member: Member) -> None:
    patient = Wallet()
    own, key = member.ca.root, patient.key.public_key()
    wrong = {
        "another root": member.lakeside_ca.issue(patient.address, key, "patient"),
        "another name": own.issue(Wallet().address, key, "patient"),
        "another key": own.issue(patient.address, Wallet().key.public_key(), "patient"),
    }
    for certificate in wrong.values():
        request = member.registration_of(
            patient, enrolment_certificate=certificate.public_bytes(Encoding.DER)
        )
        error = await rejected(member, request)
        assert error.code == INVALID
        assert error.path.endswith("enrolment_certificate")
    request = member.registration_of(patient, enrolment_certificate=b"no certificate")
    assert (await rejected(member, request)).code == INVALID


async def test_a_member_that_is_none_cannot_be_a_home(member: Member) -> None:
    error = await rejected(member, member.registration_of(Wallet(), home_msp="NowhereMSP"))
    assert (error.code, error.path) == (INVALID, "body.register_identity.home_msp")


@pytest.mark.parametrize("channel", [ELSEWHERE, REUSED_NAME])
async def test_a_registration_for_another_channel_is_refused(member: Member, channel: Channel) -> None:
    patient = Wallet()
    request = member.registration_of(patient)
    body = command.parse(request.command)[1].register_identity
    elsewhere = command.make(body, channel=channel)
    request.command.CopyFrom(command.KeySigner(patient.key).sign_command(elsewhere))
    assert (await rejected(member, request)).code == code_pb2.CODE_WRONG_CHANNEL


async def test_a_device_does_not_register_for_somebody(member: Member) -> None:
    request = member.registration_of(Wallet())
    request.command.delegation.CopyFrom(SignedDelegation(delegation=b"x"))
    assert (await rejected(member, request)).code == INVALID


async def test_what_is_no_registration_is_refused(member: Member) -> None:
    patient = Wallet()
    consent = command.make(Consent(patient=patient.address), channel=CHANNEL)
    request = identity_pb2.RegisterRequest(command=command.KeySigner(patient.key).sign_command(consent))
    assert (await rejected(member, request)).code == INVALID
    request.command.command = b"\xff\xff"
    assert (await rejected(member, request)).code == INVALID


async def test_evidence_over_a_mebibyte_is_refused_with_the_limit(member: Member) -> None:
    request = member.registration_of(Wallet())
    request.sealed_evidence = bytes(1024 * 1024 + 1)
    error = await rejected(member, request)
    assert error.code == code_pb2.CODE_TOO_LARGE
    assert "1048576" in error.reason


async def test_a_clinician_registers_without_evidence_and_custodians(member: Member) -> None:
    clinician = Wallet()
    certificate = member.ca.root.issue(clinician.address, clinician.key.public_key(), "clinician")
    body = RegisterIdentity(
        address=clinician.address,
        role=Role.ROLE_CLINICIAN,
        home_msp=MERCY,
        signing_public_key=clinician.spki,
        enrolment_certificate=certificate.public_bytes(Encoding.DER),
    )
    signed = command.KeySigner(clinician.key).sign_command(command.make(body, channel=CHANNEL))
    await register(member, identity_pb2.RegisterRequest(command=signed))
    assert not member.storage.blobs

    with_evidence = identity_pb2.RegisterRequest(command=signed, sealed_evidence=b"why")
    assert (await refused(register(member, with_evidence))).code == INVALID


async def test_an_expired_or_repeated_registration_is_for_the_channel_to_answer_and_stores_nothing(
    member: Member,
) -> None:
    late, repeated = Wallet(), Wallet()
    expired = member.registration_of(late)
    body = command.parse(expired.command)[1].register_identity
    old = command.make(body, channel=CHANNEL, now_ms=1_000)
    expired.command.CopyFrom(command.KeySigner(late.key).sign_command(old))
    member.ledger.put(repeated, Role.ROLE_PATIENT, PENDING)

    for request in (expired, member.registration_of(repeated)):
        await register(member, request)

    assert len(member.ledger.submitted) == 2
    assert not member.storage.blobs


async def test_a_role_that_was_not_certified_is_for_the_channel_to_refuse_and_stores_nothing(
    member: Member,
) -> None:
    patient = Wallet()
    for role in ("clinician", ""):
        certificate = member.ca.root.issue(patient.address, patient.key.public_key(), role)
        der = certificate.public_bytes(Encoding.DER)
        await register(member, member.registration_of(patient, enrolment_certificate=der))
    assert len(member.ledger.submitted) == 2
    assert not member.storage.blobs


async def test_who_was_rejected_registers_anew_with_new_evidence(member: Member) -> None:
    patient = Wallet()
    first, second = member.registration_of(patient), member.registration_of(patient)
    rejected_id = command.parse(first.command)[0].command_id
    member.ledger.put(patient, Role.ROLE_PATIENT, REJECTED, registration_id=rejected_id)

    await register(member, first)
    assert not member.storage.blobs
    await register(member, second)
    assert member.storage.blobs


async def test_what_reviewers_are_there_is_for_anyone_to_know(member: Member) -> None:
    ours, theirs = member.administrator(), member.administrator(home=LAKESIDE)
    member.administrator(SUSPENDED)
    member.ledger.put(Wallet(), Role.ROLE_CLINICIAN)
    answer = await member.registration.ListReviewers(identity_pb2.ListReviewersRequest(), member.by())
    assert {one.address for one in answer.administrators} == {ours.address, theirs.address}
    assert [one.msp for one in answer.members] == [LAKESIDE, MERCY]
    assert answer.channel == CHANNEL.name


async def test_a_clinician_learns_of_privacy_officers_too_each_with_its_registration(member: Member) -> None:
    administrator, officer = member.administrator(), Wallet()
    member.ledger.put(officer, Role.ROLE_PRIVACY_OFFICER)
    member.ledger.put(Wallet(), Role.ROLE_PRIVACY_OFFICER, SUSPENDED)
    request = identity_pb2.ListReviewersRequest(of_broken_glass=True)
    answer = await member.registration.ListReviewers(request, member.by())
    assert [one.address for one in answer.administrators] == [administrator.address]
    assert [one.address for one in answer.privacy_officers] == [officer.address]
    assert len(answer.registrations) == 2


async def test_an_identity_is_public_and_one_that_is_not_there_is_not_found(member: Member) -> None:
    known = member.administrator()
    request = identity_pb2.GetIdentityRequest(address=known.address)
    answer = await member.registration.GetIdentity(request, member.by())
    assert answer.identity.address == known.address
    for address, code in ((Wallet().address, code_pb2.CODE_NOT_FOUND), ("x", INVALID)):
        request = identity_pb2.GetIdentityRequest(address=address)
        error = await refused(member.registration.GetIdentity(request, member.by()))
        assert error.code == code
