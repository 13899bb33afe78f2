"""A plain FHIR application over REST: what a clinician may see, and what anybody else gets told."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.errors import MeshError
from cbmdhi.protocol.ids import uuid7
from cbmdhi.verify import verify_receipt
from cbmdhi.waiting import until
from tests.e2e.conftest import People, observation

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def http(people: People) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that trusts mercy's TLS CA and has no session."""
    context = ssl.create_default_context(cadata=people.mercy_clinician.member.tls_ca_pem)
    base = people.mercy_clinician.member.gateway.rest
    async with aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield session


async def test_a_fhir_application_reads_what_the_patient_permitted_and_the_trail_names_both(
    people: People,
) -> None:
    async with await people.new_patient() as patient:
        record = observation(patient)
        [result] = await people.engine.records.put([record])
        assert result.ok
        await patient.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
        async with people.mercy_clinician.fhir() as session:
            resource = await session.read("Observation", record.record_id)
        assert resource == json.loads(record.content)

        async def recorded() -> bool:
            entries = [entry.entry for entry in await patient.trail.audit()]
            by_device = [
                entry for entry in entries if entry.on_behalf_of == people.mercy_clinician.wallet.address
            ]
            return [entry.action for entry in by_device] == ["read"]

        await until(recorded, "the trail names the clinician behind the gateway's device")


async def test_a_fhir_application_without_the_patients_consent_gets_an_operation_outcome(
    people: People, patient: Client
) -> None:
    record = observation(patient)
    [result] = await people.engine.records.put([record])
    assert result.ok
    async with people.lakeside_clinician.fhir() as session:

        async def refused() -> str:
            try:
                await session.read("Observation", record.record_id)
            except MeshError as error:
                return error.code_name if error.code_name != "NOT_FOUND" else ""
            return "OK"

        assert await until(refused, "lakeside knows the record") == "FORBIDDEN"


async def test_a_fhir_application_writes_and_the_trail_names_who_stood_behind_the_device(
    people: People,
) -> None:
    async with await people.new_patient() as patient:
        resource = json.loads(observation(patient).content)
        resource["subject"] = {"reference": f"Patient/{patient.wallet.address}"}
        async with people.mercy_clinician.fhir(actions=["write", "read"]) as session:
            created = await session.create(resource)
            # Who wrote it may look at it again: no consent was given.
            assert await session.read("Observation", created.record_id) == {
                **resource,
                "id": created.record_id,
            }
            amended = {**resource, "id": created.record_id, "status": "amended"}
            updated = await session.update(amended, after=1)
            with pytest.raises(MeshError) as again:
                await session.update(amended, after=1)
        assert (created.version, updated.version, again.value.code_name) == (1, 2, "CONFLICT")
        first = await patient.records.read(
            patient.wallet.address, created.record_id, 1, "PATRQT", action="history"
        )
        second = await patient.records.read(patient.wallet.address, created.record_id, 2, "PATRQT")
        assert first.resource == {**resource, "id": created.record_id}
        assert second.resource["status"] == "amended"
        assert second.record.author == people.mercy_clinician.wallet.address != second.record.signed_by
        assert set(second.proof.endorsers) == {"LakesideMSP", "MercyMSP"}
        assert (await verify_receipt(patient, created.tx_id, created.command_id)).ok

        async def recorded() -> bool:
            entries = [entry.entry for entry in await patient.trail.audit()]
            behind = [
                entry for entry in entries if entry.on_behalf_of == people.mercy_clinician.wallet.address
            ]
            return [entry.action for entry in behind].count("write") >= 2

        await until(recorded, "the trail names the clinician behind the gateway's device")


async def test_one_id_is_not_two_resources_of_different_kinds(people: People, patient: Client) -> None:
    record_id, subject = uuid7(), {"reference": f"Patient/{patient.wallet.address}"}
    seen = {**json.loads(observation(patient).content), "id": record_id, "subject": subject}
    async with people.mercy_clinician.fhir(actions=["write", "read"]) as session:
        await session.update(seen, after=0)
        for other in (
            {"resourceType": "Condition"},
            {"resourceType": "QuestionnaireResponse", "status": "completed"},
        ):
            with pytest.raises(MeshError) as caught:
                await session.update({**other, "id": record_id, "subject": subject})
            assert (caught.value.code_name, "id of its own" in caught.value.reason) == ("CONFLICT", True)
        assert await session.read("Observation", record_id) == seen


async def test_after_the_logout_no_device_acts_within_what_was_delegated(
    people: People, patient: Client
) -> None:
    record = observation(patient)
    await people.engine.records.put([record])
    async with patient.fhir() as session:
        await session.read("Observation", record.record_id)
        await session.logout()
        with pytest.raises(MeshError):
            await session.read("Observation", record.record_id)

    async def ended() -> bool:
        entries = [entry.entry for entry in await patient.trail.audit()]
        return [entry.action for entry in entries].count("revoke-delegation") == 1

    await until(ended, "the trail shows that the delegation was ended")


async def test_a_session_for_one_patient_is_none_for_another(people: People, patient: Client) -> None:
    async with await people.new_patient() as other:
        record = observation(other)
        await people.engine.records.put([record])
        await other.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
        for patients, code in (([other.wallet.address], ""), ([patient.wallet.address], "FORBIDDEN")):
            async with people.mercy_clinician.fhir(patients=patients) as session:
                try:
                    await session.read("Observation", record.record_id)
                    found = ""
                except MeshError as error:
                    found = error.code_name
            assert found == code


async def test_a_delegation_to_read_is_none_to_write(people: People, patient: Client) -> None:
    resource = json.loads(observation(patient).content)
    resource["subject"] = {"reference": f"Patient/{patient.wallet.address}"}
    async with people.mercy_clinician.fhir() as session:
        with pytest.raises(MeshError) as caught:
            await session.create(resource)
    assert caught.value.code_name == "FORBIDDEN"
    assert "write" in caught.value.reason


async def test_a_delegation_for_one_purpose_is_none_for_another(people: People, patient: Client) -> None:
    record = observation(patient)
    await people.engine.records.put([record])
    async with people.mercy_clinician.fhir(purposes=["HOPERAT"]) as session:
        with pytest.raises(MeshError) as caught:
            await session.read("Observation", record.record_id)
    assert caught.value.code_name == "FORBIDDEN"


async def test_the_wrong_type_and_an_unknown_id_look_the_same(people: People, patient: Client) -> None:
    async with people.mercy_clinician.fhir() as session:
        with pytest.raises(MeshError) as unknown:
            await session.read("Observation", uuid7())
    assert unknown.value.code_name == "NOT_FOUND"


async def test_without_a_token_nothing_is_answered(people: People, http: aiohttp.ClientSession) -> None:
    async with http.get(f"/fhir/Observation/{uuid7()}") as response:
        assert response.status == 401
        outcome = await response.json(content_type=None)
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["code"] == "login"


async def test_health_readiness_and_capabilities_need_no_login(
    people: People, http: aiohttp.ClientSession
) -> None:
    for path in ("/healthz", "/readyz", "/fhir/metadata"):
        async with http.get(path) as response:
            assert response.status == 200, path
    async with http.get("/fhir/metadata") as response:
        assert (await response.json(content_type=None))["resourceType"] == "CapabilityStatement"
