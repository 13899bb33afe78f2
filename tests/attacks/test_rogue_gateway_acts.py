"""Who has broken into a member's gateway acts with its keys: for nobody, and not in anybody's name."""

from __future__ import annotations

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command, hpke, signature
from ops.demo import cast
from tests.support.fabric_caller import MEMBERS
from tests.support.fakes.token_service import TokenService, b64
from tests.support.mesh import People, observation
from tests.support.rogue import (
    RogueGateway,
    access,
    ask,
    delegated,
    opened,
    refusal,
    signed_record,
    written,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


# What is read


async def test_nothing_is_opened_without_a_decision_that_permits_and_nothing_twice(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    record = observation(patient)
    wrote = (await written(people.engine, people.engine.records.prepare(record))).receipt
    error = await refusal(opened(rogue, wrote))
    assert (error.code_name, "not an access" in error.reason) == ("FORBIDDEN", True), error

    stranger = people.lakeside_clinician.wallet
    [refused] = await rogue.carry(rogue.sign(stranger, access(record)))
    assert (refused.code, refused.outcome) == (code_pb2.CODE_FORBIDDEN, code_pb2.OUTCOME_COMMITTED)
    error = await refusal(opened(rogue, refused))
    assert (error.code_name, "refused the access" in error.reason) == ("FORBIDDEN", True), error
    # Another's decision does not stand for this one.
    permit = rogue.sign(patient.wallet, access(record, "PATRQT"))
    [permitted] = await rogue.carry(permit)
    assert permitted.code == code_pb2.CODE_OK
    mixed = ledger_pb2.Receipt(tx_id=permitted.tx_id, command_id=refused.command_id)
    assert (await refusal(opened(rogue, mixed))).code_name == "FORBIDDEN"

    answer = await opened(rogue, permitted)
    # To its reader alone: with the key of the device it opens nothing.
    place = (patient.wallet.address, permitted.command_id, record.record_id, "1")
    device = hpke.PrivateKey((rogue.folder / "device" / "hpke.key").read_bytes())
    with pytest.raises(hpke.CannotOpen):
        hpke.open(device, answer.sealed_data_key, hpke.DATA_KEY, *place)
    assert hpke.open(patient.wallet.hpke_private, answer.sealed_data_key, hpke.DATA_KEY, *place)
    error = await refusal(opened(rogue, permitted))
    assert error.code_name == "CONFLICT", error
    # Nor is the decision made again by sending it again.
    [again] = await rogue.carry(permit)
    assert again.already_committed
    assert (await refusal(opened(rogue, again))).code_name == "CONFLICT"


async def test_the_device_reads_for_nobody_who_has_not_said_so_and_writes_for_nobody(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    record = observation(patient)
    await written(people.engine, people.engine.records.prepare(record))
    line = provision(grantee=people.mercy_clinician.wallet.address)
    consent_id, _ = await patient.consents.grant(line)
    clinician = people.mercy_clinician.wallet
    async with await people.new_patient() as other:
        for_other = delegated(clinician, rogue.device().address, patients=[other.wallet.address])
        for_patient = delegated(clinician, rogue.device().address, patients=[patient.wallet.address])
        forged = pb.SignedDelegation(
            delegation=for_patient.delegation,
            signature=signature.sign(rogue.device_key, signature.DELEGATION, for_patient.delegation),
        )
        for delegation in (None, for_other, forged):
            by = rogue.device(delegation)
            [receipt] = await rogue.carry(rogue.sign(by, access(record)))
            assert receipt.code in (code_pb2.CODE_FORBIDDEN, code_pb2.CODE_BAD_SIGNATURE), receipt
            assert not receipt.tx_id or (await refusal(opened(rogue, receipt))).code_name == "FORBIDDEN"
    by = rogue.device(for_patient)
    [read] = await rogue.carry(rogue.sign(by, access(record)))
    assert read.code == code_pb2.CODE_OK, read
    # To read was said, and nothing else.
    _, signed, content = signed_record(people.engine, observation(patient))
    put = rogue.sign(by, command.parse(signed)[1].put_record)
    [receipt] = await rogue.carry(await rogue.seal(put, content.content, content.salt))
    assert receipt.code == code_pb2.CODE_FORBIDDEN, receipt
    # And the patient sees who did.
    trail = [one.entry for one in await patient.trail.audit() if one.entry.command_id == read.command_id]
    assert [(one.signer, one.on_behalf_of) for one in trail] == [(by.address, clinician.address)]
    await patient.consents.revoke(consent_id)


# Sessions, registrations, suspensions


async def test_nobodys_session_is_to_be_had_by_who_holds_the_gateways_keys(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    address, folder = patient.wallet.address, rogue.folder / "device"
    own_certificate = (folder / "certificate.pem").read_text()
    parsed = x509.load_pem_x509_certificate(own_certificate.encode())
    thumbprint = b64(parsed.fingerprint(hashes.SHA256()))
    challenge = await ask(rogue.sessions.Challenge, identity_pb2.ChallengeRequest(address=address))
    binding = thumbprint.encode()
    login = identity_pb2.LoginRequest(
        address=address,
        challenge=challenge.challenge,
        signature=signature.sign(rogue.device_key, signature.LOGIN, challenge.challenge, binding),
        certificate_x5t_s256=thumbprint,
    )
    error = await refusal(ask(rogue.sessions.Login, login))
    assert (error.code_name, error.path) == ("UNAUTHENTICATED", "signature")

    stolen = await patient.connection.token()
    made = TokenService().token(address, {"x5t#S256": thumbprint}, "patient")
    for member in MEMBERS:
        mine = patient.wallet.consortium.member_named(member)
        key = (folder / "signing.key").read_bytes()
        credentials = grpc.ssl_channel_credentials(mine.tls_ca_pem.encode(), key, own_certificate.encode())
        options = [("grpc.ssl_target_name_override", f"gateway.{member}")]
        async with grpc.aio.secure_channel(mine.gateway.grpc, credentials, options=options) as channel:
            consents = gateway_pb2_grpc.RecordServiceStub(channel).ListConsents
            for token in (stolen, made):
                metadata = (("authorization", f"Bearer {token}"),)
                error = await refusal(ask(consents, gateway_pb2.ListConsentsRequest(), metadata=metadata))
                assert error.code_name == "UNAUTHENTICATED", error
    # Nobody was logged out by it.
    assert await patient.consents.list() is not None


async def test_whoever_is_invited_may_do_nothing_before_the_members_have_looked(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    async with people.newcomer(pb.ROLE_CLINICIAN) as mallory:
        inviting = people.mercy_administrator.registration
        await mallory.registration.enrol(await inviting.invite(mallory.wallet.address, pb.ROLE_CLINICIAN))
        await mallory.registration.register()
        assert not await cast.is_active(mallory)
        identity = await mallory.registration.identity()
        review = pb.ReviewRegistration(
            address=mallory.wallet.address,
            registration_id=identity.registration_id,
            decision=pb.DECISION_APPROVE,
            reason_code="identity-verified",
            evidence_cid=identity.evidence_cid,
        )
        for by in (rogue.device(), mallory.wallet):
            [receipt] = await rogue.carry(rogue.sign(by, review))
            assert receipt.code in (code_pb2.CODE_FORBIDDEN, code_pb2.CODE_INACTIVE_SIGNER), receipt
        assert not await cast.is_active(mallory)
        _, signed, content = signed_record(mallory, observation(patient))
        [receipt] = await rogue.carry(await rogue.seal(signed, content.content, content.salt))
        assert receipt.code == code_pb2.CODE_INACTIVE_SIGNER, receipt


async def test_the_device_ends_and_suspends_nobody(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    given = delegated(patient.wallet, rogue.device().address)
    delegation = pb.Delegation.FromString(given.delegation)
    consent_id, _ = await patient.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
    follows = await patient.consents.latest()
    for body in (
        pb.SuspendIdentity(address=patient.wallet.address, reason_code="misuse"),
        pb.RevokeDelegation(
            delegation_id=delegation.delegation_id,
            delegator=patient.wallet.address,
            expires_at_ms=delegation.expires_at_ms,
        ),
        pb.RevokeConsent(consent_id=consent_id, patient=patient.wallet.address, follows=follows),
    ):
        for signer in (rogue.device(), rogue.device(given)):
            [receipt] = await rogue.carry(rogue.sign(signer, body))
            assert receipt.code == code_pb2.CODE_FORBIDDEN, (body.DESCRIPTOR.name, receipt)
    assert await cast.is_active(patient)
    assert consent_id in [one.consent_id for one in (await patient.consents.list()).consents]
    await patient.consents.revoke(consent_id)
