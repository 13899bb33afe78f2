"""Registration and review: what cannot be accepted leaves nothing behind; who waits for whom."""

from __future__ import annotations

import asyncio
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
from cbmdhi.protocol.state_keys import sealed_record_key_name
from tests.support.channel import ELSEWHERE, REUSED_NAME
from tests.support.fakes.fabric_ca import Wallet
from tests.support.fakes.identity_member import (
    CHANNEL,
    LAKESIDE,
    MERCY,
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
    """Over the connection of whom it registers, as the gateway says."""
    return await member.registration.Register(request, member.by(request.command.signer))


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


async def test_a_patient_shows_evidence_and_it_is_what_the_patient_signed_for(member: Member) -> None:
    unsigned = member.registration_of(Wallet(), evidence_cid="")
    withheld = member.registration_of(Wallet())
    withheld.sealed_evidence = b""
    neither = member.registration_of(Wallet(), evidence_cid="")
    neither.sealed_evidence = b""
    for request, path in (
        (unsigned, "body.register_identity.evidence_cid"),
        (withheld, "sealed_evidence"),
        (neither, "sealed_evidence"),
    ):
        error = await rejected(member, request)
        assert (error.code, error.path) == (INVALID, path)


async def test_a_registration_comes_from_whom_it_registers(member: Member) -> None:
    request = member.registration_of(Wallet())
    error = await refused(member.registration.Register(request, member.by(Wallet())))
    assert (error.code, error.path) == (code_pb2.CODE_FORBIDDEN, "signer")
    anonymous = await refused(member.registration.Register(request, member.by()))
    assert anonymous.code == code_pb2.CODE_UNAUTHENTICATED
    assert not member.storage.blobs
    assert not member.ledger.submitted


async def test_each_custodian_gets_the_key_that_the_command_names(member: Member) -> None:
    another = SealedKey(msp=LAKESIDE, key=sealed_record_key_name("another"), sealed=b"sealed record key")
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


async def test_evidence_over_the_limit_is_refused_naming_it(member: Member) -> None:
    request = member.registration_of(Wallet())
    request.sealed_evidence = bytes(256 * 1024 + 1)
    error = await rejected(member, request)
    assert error.code == code_pb2.CODE_TOO_LARGE
    assert "262144" in error.reason


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


@pytest.mark.parametrize("verdict", [code_pb2.CODE_EXPIRED, code_pb2.CODE_CONFLICT, code_pb2.CODE_FORBIDDEN])
async def test_what_the_channel_refuses_leaves_no_evidence_behind(member: Member, verdict: int) -> None:
    member.ledger.verdict = verdict
    answer = await register(member, member.registration_of(Wallet()))
    assert answer.receipt.code == verdict
    assert not member.storage.blobs


async def test_evidence_that_could_not_be_kept_is_kept_when_the_same_is_sent_again(member: Member) -> None:
    request = member.registration_of(Wallet())
    member.storage.away = True
    error = await refused(register(member, request))
    assert (error.code, error.path) == (code_pb2.CODE_UNAVAILABLE, "sealed_evidence")
    assert "send the same again" in error.reason
    assert error.retry_after_ms > 0
    member.storage.away = False
    assert (await register(member, request)).receipt.code == code_pb2.CODE_OK
    assert list(member.storage.blobs.values()) == [request.sealed_evidence]


async def test_a_registration_that_was_decided_brings_no_evidence_back(member: Member) -> None:
    request = member.registration_of(Wallet())
    await register(member, request)
    member.storage.blobs.clear()
    member.ledger.documents[request.command.signer].status = REJECTED
    await register(member, request)
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


async def test_a_flood_of_newcomers_asks_the_ledger_for_the_reviewers_once(member: Member) -> None:
    member.administrator()
    answers = await asyncio.gather(
        *(
            member.registration.ListReviewers(identity_pb2.ListReviewersRequest(), member.by())
            for _ in range(50)
        )
    )
    assert {len(answer.administrators) for answer in answers} == {1}
    assert member.ledger.lists == 1


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


async def test_identities_are_for_who_logged_in_and_the_own_one_for_who_is_enrolled(member: Member) -> None:
    caller, known = Wallet(), member.administrator()
    request = identity_pb2.GetIdentityRequest(address=known.address)
    answer = await member.registration.GetIdentity(request, member.by(caller))
    assert answer.identity.address == known.address
    error = await refused(member.registration.GetIdentity(request, member.by()))
    assert error.code == code_pb2.CODE_UNAUTHENTICATED
    for address, code in ((Wallet().address, code_pb2.CODE_NOT_FOUND), ("x", INVALID)):
        request = identity_pb2.GetIdentityRequest(address=address)
        error = await refused(member.registration.GetIdentity(request, member.by(caller)))
        assert error.code == code

    own = identity_pb2.GetOwnIdentityRequest()
    answer = await member.registration.GetOwnIdentity(own, member.by(known))
    assert answer.identity.address == known.address
    assert (await refused(member.registration.GetOwnIdentity(own, member.by(caller)))).code == (
        code_pb2.CODE_NOT_FOUND
    )
    assert (await refused(member.registration.GetOwnIdentity(own, member.by()))).code == (
        code_pb2.CODE_UNAUTHENTICATED
    )
