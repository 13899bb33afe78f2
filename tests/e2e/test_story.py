"""The paper's story on the real network: register, write, refuse, consent, read, revoke, audit, verify."""

from __future__ import annotations

import json
import time

import pytest

from cbmdhi import fhir
from cbmdhi.client import Client
from cbmdhi.client.commands import submit
from cbmdhi.client.consents import consent, provision
from cbmdhi.client.records import NewRecord, Reading
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1 import state_pb2
from cbmdhi.errors import AccessRefused, MeshError, NotCommitted, name_of
from cbmdhi.protocol import replica
from cbmdhi.protocol.ids import uuid7
from cbmdhi.verify import verify_receipt
from cbmdhi.waiting import until
from ops.demo import cast, data
from tests.e2e.conftest import People, observation

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def written(engine: Client, record: NewRecord) -> NewRecord:
    """Write a record that must be taken."""
    return (await engine.records.put(record)).record


async def refused(reader: Client, record: NewRecord) -> AccessRefused:
    """Read a record that must be refused."""
    with pytest.raises(AccessRefused) as caught:
        await reader.records.read(record.patient, record.record_id, record.version, "TREAT")
    return caught.value


async def test_a_patient_is_active_only_when_both_hospitals_approved_and_is_told(people: People) -> None:
    async with people.newcomer() as newcomer:
        await newcomer.registration.enrol()
        await newcomer.registration.register({"name": "only the reviewers can read this"})
        address = newcomer.wallet.address
        waiting = await cast.approve(people.mercy_administrator, address)
        evidence = await people.mercy_administrator.registration.evidence(waiting)
        assert evidence == {"name": "only the reviewers can read this"}
        identity = await newcomer.registration.identity()
        assert identity.status == state_pb2.IDENTITY_STATUS_PENDING
        await cast.approve(people.lakeside_administrator, address)
        await until(lambda: cast.is_active(newcomer), "the patient is active")

        async def told() -> bool:
            return "registration.activated" in [entry.kind for entry in await newcomer.inbox.list()]

        await until(told, "the patient is told")


async def test_a_rejected_patient_never_becomes_active(people: People) -> None:
    async with people.newcomer() as newcomer:
        await newcomer.registration.enrol()
        await newcomer.registration.register({"document": "passport"})
        address = newcomer.wallet.address

        async def waiting() -> object:
            found = await people.lakeside_administrator.registration.pending()
            return next((entry for entry in found if entry.identity.address == address), None)

        review = await until(waiting, "the registration reaches lakeside")
        response = await people.lakeside_administrator.registration.review(
            review.identity,  # type: ignore[attr-defined]
            approve=False,
            reason_code="document-mismatch",
        )
        assert response.identity.status == state_pb2.IDENTITY_STATUS_REJECTED
        with pytest.raises(NotCommitted):
            await people.mercy_administrator.registration.review(response.identity, approve=True)


async def test_an_engine_gets_a_receipt_for_each_record_of_a_patients_history(people: People) -> None:
    async with await people.new_patient() as patient:
        records = fhir.records_of(data.history(seed=11), patient.wallet.address)
        results = await people.engine.records.put(records)
        assert len(results) == len(records) >= 50
        pinned = patient.wallet.consortium
        for result in results:
            receipt = result.receipt
            assert name_of(receipt.receipt.code) == "OK", receipt
            assert receipt.receipt.tx_id
            assert receipt.receipt.block > 0
            assert receipt.stored.cid.startswith("b")
            assert sorted(receipt.stored.replicas) == ["LakesideMSP", "MercyMSP"]
            assert [one.msp for one in receipt.replicas] == ["MercyMSP", "LakesideMSP"]
            for one in receipt.replicas:
                assert one.root_sha256 == receipt.stored.root_sha256
                key = pinned.members[one.msp].storage_signing_key
                replica.verify_receipt(one, pinned.genesis_sha256, key)

        async def listed() -> bool:
            return len(await patient.records.list()) == len(records)

        await until(listed, "the patient sees all records")


async def test_a_clinician_without_consent_is_refused_and_the_refusal_is_on_the_channel(
    people: People, patient: Client
) -> None:
    record = await written(people.engine, observation(patient))
    refusal = await refused(people.lakeside_clinician, record)
    assert refusal.code_name == "FORBIDDEN"
    assert "consent" in refusal.reason
    receipt = refusal.receipt
    verification = await verify_receipt(people.lakeside_clinician, receipt.tx_id, receipt.command_id)
    assert verification.ok, verification


async def test_a_record_and_a_consent_are_one_transaction(people: People, patient: Client) -> None:
    record = observation(patient)
    line = provision(grantee=people.lakeside_clinician.wallet.address)
    body = consent(patient.wallet.address, line, follows=await patient.consents.latest())
    receipts = await patient.records.put_with(record, people.mercy_clinician.wallet, (patient.wallet, body))
    assert len({receipt.receipt.tx_id for receipt in receipts}) == 1
    reading = await people.lakeside_clinician.records.read(record.patient, record.record_id, 1, "TREAT")
    assert reading.content == record.content
    await patient.consents.revoke(body.consent_id)


async def test_when_the_consent_of_a_group_is_refused_the_record_is_not_written(
    people: People, patient: Client
) -> None:
    record = observation(patient)
    not_the_patients = consent(patient.wallet.address, provision(msp="LakesideMSP"))
    with pytest.raises(NotCommitted):
        await patient.records.put_with(
            record, people.mercy_clinician.wallet, (people.mercy_clinician.wallet, not_the_patients)
        )
    with pytest.raises(NotCommitted) as caught:
        await patient.records.read(record.patient, record.record_id, 1, "PATRQT")
    assert caught.value.code_name == "NOT_FOUND"


async def test_a_permitted_clinician_decrypts_and_the_author_signed_what_was_read(
    people: People, patient: Client
) -> None:
    record = await written(people.engine, observation(patient))
    line = provision(grantee=people.lakeside_clinician.wallet.address, record_ids=[record.record_id])
    consent_id, _ = await patient.consents.grant(line)
    reading = await people.lakeside_clinician.records.read(record.patient, record.record_id, 1, "TREAT")
    assert reading.content == record.content
    assert reading.receipt.basis.consent_id == consent_id
    assert reading.proof.endorsers == ("LakesideMSP", "MercyMSP")
    assert reading.record.author == reading.proof.signed.signer == people.engine.wallet.address


async def test_a_clinician_breaks_the_glass_and_the_patient_sees_who_and_why(people: People) -> None:
    async with await people.new_patient() as patient:
        record = await written(people.engine, observation(patient))
        await refused(people.lakeside_clinician, record)
        reading = await people.lakeside_clinician.records.break_glass(
            record.patient, record.record_id, record.version, "unconscious"
        )
        assert reading.content == record.content

        async def told() -> bool:
            return "break-glass" in {entry.kind for entry in await patient.inbox.list()}

        await until(told, "the patient is told of the broken glass")
        entries = [entry.entry for entry in await patient.trail.audit()]
        [broken] = [entry for entry in entries if entry.action == "break-glass"]
        clinician = people.lakeside_clinician.wallet.address
        assert (broken.signer, broken.reason_code) == (clinician, "")
        assert not [entry for entry in entries if entry.action == "review-break-glass"]
        stands = await people.lakeside_clinician.trail.evidence(reading.receipt.command_id)
        assert reading.receipt.command_id.encode() in stands.endorsed_state
        assert b"unconscious" not in stands.SerializeToString()
        for reviewer in (people.lakeside_administrator, people.mercy_administrator):
            told_why = await reviewer.registration.broken_glass(reading.receipt.command_id, clinician)
            assert (told_why.patient, told_why.record_id) == (record.patient, record.record_id)
            assert told_why.reason == "unconscious"


async def test_who_broke_the_glass_without_need_is_reviewed_and_stopped(people: People) -> None:
    office = people.lakeside_administrator.registration
    clinician = await cast.member_of_staff(
        people.stage,
        "lakeside",
        f"clinician-{uuid7()}",
        pb.ROLE_CLINICIAN,
        people.lakeside_administrator,
        people.mercy_administrator,
    )
    async with clinician, await people.new_patient() as patient:
        record = await written(people.engine, observation(patient))
        reading = await clinician.records.break_glass(record.patient, record.record_id, 1, "unconscious")
        address = clinician.wallet.address

        glass = reading.receipt.command_id
        for reviewer in (people.lakeside_administrator, people.mercy_administrator):
            await reviewer.registration.review_break_glass(glass, address, justified=False)
        await office.suspend(address, "misuse")

        async def is_reviewed() -> bool:
            found = [
                (entry.entry.signer_msp, entry.entry.reason_code, entry.entry.review_closed)
                for entry in await patient.trail.audit()
                if entry.entry.break_glass_id == glass
            ]
            return found == [("LakesideMSP", "not-justified", False), ("MercyMSP", "not-justified", True)]

        await until(is_reviewed, "the patient sees what both members found")
        assert not await cast.is_active(clinician)
        await office.reinstate(address)
        assert await cast.is_active(clinician)


async def test_only_a_clinician_breaks_the_glass(people: People, patient: Client) -> None:
    record = await written(people.engine, observation(patient))
    with pytest.raises(AccessRefused):
        await people.mercy_administrator.records.break_glass(
            record.patient, record.record_id, 1, "unconscious"
        )


async def test_a_consent_for_treatment_is_none_for_research(people: People, patient: Client) -> None:
    record = await written(people.engine, observation(patient))
    await patient.consents.grant(
        provision(
            grantee=people.lakeside_clinician.wallet.address,
            purposes=["TREAT"],
            record_ids=[record.record_id],
        )
    )
    with pytest.raises(AccessRefused):
        await people.lakeside_clinician.records.read(record.patient, record.record_id, 1, "HRESCH")


async def test_after_revocation_the_next_reading_is_refused_and_the_trail_tells_all(people: People) -> None:
    async with await people.new_patient() as patient:
        reader = people.lakeside_clinician
        record = await written(people.engine, observation(patient))
        await refused(reader, record)
        consent_id, _ = await patient.consents.grant(provision(grantee=reader.wallet.address))
        await reader.records.read(record.patient, record.record_id, 1, "TREAT")
        await patient.consents.revoke(consent_id)
        await refused(reader, record)

        async def trail() -> list[state_pb2.AuditEntry]:
            entries = [entry.entry for entry in await patient.trail.audit()]
            return entries if sum(entry.action == "read" for entry in entries) == 3 else []

        reads = [
            entry for entry in await until(trail, "three readings are in the trail") if entry.action == "read"
        ]
        assert [name_of(entry.code) for entry in reads] == ["FORBIDDEN", "OK", "FORBIDDEN"]
        assert {entry.signer for entry in reads} == {reader.wallet.address}
        assert {entry.purpose for entry in reads} == {"TREAT"}
        assert reads[1].basis.consent_id == consent_id
        assert all(entry.at_ms > 0 for entry in reads)

        async def told() -> bool:
            kinds = {entry.kind for entry in await patient.inbox.list()}
            return kinds >= {
                "registration.activated",
                "record.written",
                "consent.given",
                "consent.revoked",
                "access.permitted",
                "access.refused",
            }

        await until(told, "the inbox tells of registration, consent and accesses")


async def test_the_patient_reads_their_own_record_at_the_other_hospital(
    people: People, patient: Client
) -> None:
    record = await written(people.engine, observation(patient))
    async with Client(patient.wallet, "lakeside") as elsewhere:

        async def reading() -> bytes:
            try:
                return (await elsewhere.records.read(record.patient, record.record_id, 1, "PATRQT")).content
            except NotCommitted as error:
                if error.code_name != "NOT_FOUND":
                    raise
                return b""

        assert await until(reading, "lakeside's peer has the record") == record.content


async def test_a_receipt_is_checked_from_the_patients_side_down_to_the_stored_bytes(
    people: People, patient: Client
) -> None:
    [result] = await people.engine.records.put([observation(patient)])
    receipt = result.receipt.receipt
    verification = await verify_receipt(
        patient, receipt.tx_id, receipt.command_id, people.engine.wallet.address
    )
    assert verification.ok, verification
    checked = {check.name: check.detail for check in verification.checks}
    assert set(checked) >= {"endorsements", "transaction", "author", "verdict", "cid"}
    assert "MercyMSP" in checked["endorsements"]
    assert "LakesideMSP" in checked["endorsements"]


async def test_a_receipt_with_another_command_id_does_not_verify(people: People, patient: Client) -> None:
    [result] = await people.engine.records.put([observation(patient)])
    verification = await verify_receipt(patient, result.receipt.receipt.tx_id, uuid7())
    assert not verification.ok


async def test_the_same_command_sent_again_gets_the_first_receipt(people: People, patient: Client) -> None:
    prepared = people.engine.records.prepare(observation(patient))
    [first] = [entry async for entry in people.engine.records.send([prepared])]
    [again] = [entry async for entry in people.engine.records.send([prepared])]
    assert first.ok
    assert again.ok
    ours, theirs = first.receipt.receipt, again.receipt.receipt
    assert (theirs.tx_id, theirs.block, theirs.code) == (ours.tx_id, ours.block, ours.code)
    assert theirs.already_committed
    assert again.receipt.stored.cid == first.receipt.stored.cid


async def test_no_plaintext_lies_in_ipfs(people: People, patient: Client) -> None:
    marker = f"marker-{uuid7()}"
    record = observation(patient, note=[{"text": marker}])
    [result] = await people.engine.records.put([record])
    blob = await patient.trail.blob(result.receipt.stored.cid)
    assert marker.encode() not in blob
    assert patient.wallet.address.encode() not in blob


async def test_a_second_version_follows_the_first_and_both_stay_readable(
    people: People, patient: Client
) -> None:
    first = await written(people.engine, observation(patient))
    resource = {**json.loads(first.content), "status": "amended"}
    second = await written(people.engine, NewRecord.of(first.patient, resource, first.record_id, version=2))
    for record, action in ((first, "history"), (second, "history"), (second, "read")):
        reading = await patient.records.read(
            record.patient, record.record_id, record.version, "PATRQT", action
        )
        assert reading.content == record.content
    # Without a version it is the latest, everywhere.
    reading = await patient.records.read(first.patient, first.record_id)
    assert (reading.record.version, reading.content) == (2, second.content)
    [reading] = await patient.records.read_many([(first.patient, first.record_id)])
    assert isinstance(reading, Reading)
    assert reading.content == second.content
    # Even the patient looks back by asking for the history: what is read is the latest.
    with pytest.raises(AccessRefused):
        await patient.records.read(first.patient, first.record_id, first.version, "PATRQT")


async def test_a_suspended_clinician_can_do_nothing_more(people: People) -> None:
    by, also = people.mercy_administrator, people.lakeside_administrator
    name = f"clinician-{uuid7()}"
    joined = cast.member_of_staff(people.stage, "mercy", name, pb.ROLE_CLINICIAN, by, also)
    async with await joined as clinician:
        body = pb.SuspendIdentity(address=clinician.wallet.address, suspend=True, reason_code="left")
        await submit(by.connection, body)

        async def locked_out() -> bool:
            try:
                await clinician.inbox.list()
            except MeshError as error:
                return error.code_name in ("INACTIVE_SIGNER", "UNAUTHENTICATED")
            return False

        await until(locked_out, "the suspension reaches the gateway", deadline_seconds=6)


async def test_a_suspended_patient_still_revokes_and_what_two_members_must_undo_they_undo(
    people: People,
) -> None:
    home, other = people.mercy_administrator, people.lakeside_administrator
    reader = people.lakeside_clinician
    async with await people.new_patient() as patient:
        address = patient.wallet.address
        record = await written(people.engine, observation(patient))
        consent_id, _ = await patient.consents.grant(provision(grantee=reader.wallet.address))
        await home.registration.suspend(address, "misuse")

        async def locked_out() -> bool:
            try:
                await patient.inbox.list()
            except MeshError as error:
                return error.code_name == "INACTIVE_SIGNER"
            return False

        await until(locked_out, "the suspension reaches the gateway", deadline_seconds=6)
        await reader.records.read(record.patient, record.record_id, 1, "TREAT")
        await patient.consents.revoke(consent_id)
        await refused(reader, record)
        await home.registration.reinstate(address)

        # Now the key is lost: a thief could not revoke, and the hospital writes on.
        await until(lambda: cast.is_active(patient), "the patient is active again")
        stolen_ms = int(time.time() * 1000) - 1
        consent_id, _ = await patient.consents.grant(provision(grantee=reader.wallet.address))
        await home.registration.suspend(address, "lost-key", stolen_ms)
        await refused(reader, record)
        with pytest.raises(MeshError):
            await patient.consents.revoke(consent_id)
        await written(people.engine, observation(patient))
        await home.registration.reinstate(address)
        assert not await cast.is_active(patient)
        await other.registration.reinstate(address)
        await until(lambda: cast.is_active(patient), "two members let the patient act again")


async def test_what_a_clinician_may_not_search_is_not_listed(people: People, patient: Client) -> None:
    await written(people.engine, observation(patient))
    stranger = people.lakeside_clinician
    found = await stranger.records.list(patient.wallet.address, purpose="HRESCH")
    assert found == []
