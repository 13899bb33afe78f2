"""Of two members one is away, so that nothing is committed: an emergency at the patient's own hospital.

It is one story, of three minutes: that a majority is away shows when a minute of the channel's passes untold.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from cbmdhi.client import Client
from cbmdhi.client.emergency import EmergencyReading
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.notify.v1.notify_pb2 import Notification
from cbmdhi.waiting import until
from ops.demo import cast
from ops.devnet import Network
from tests.support.mesh import People, network, observation, people

__all__ = ["network", "people"]

AWAY = "lakeside-peer"


async def written(engine: Client, record: NewRecord) -> NewRecord:
    return (await engine.records.put(record)).record


async def notified(owner: Client, kind: str) -> Notification | None:
    return next((one for one in await owner.inbox.list() if one.kind == kind), None)


@pytest_asyncio.fixture(loop_scope="session")
async def alone(network: Network) -> AsyncIterator[Network]:
    """Mercy's network, whose neighbour can be sent away and comes back at the end."""
    yield network
    network.supervisor.signal_program(AWAY, "CONT")


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(420)
async def test_the_home_hospital_opens_its_patients_record_and_puts_it_on_record_when_a_majority_is_back(
    people: People, alone: Network
) -> None:
    clinician = people.mercy_clinician
    async with await people.new_patient() as patient, people.newcomer(member="lakeside") as elsewhere:
        await elsewhere.registration.enrol()
        await elsewhere.registration.register({"document": "none"})
        for administrator in (people.mercy_administrator, people.lakeside_administrator):
            await cast.approve(administrator, elsewhere.wallet.address)
        engine = await cast.member_of_staff(
            *(people.stage, "lakeside", "lakeside-engine", pb.ROLE_ENGINE),
            *(people.lakeside_administrator, people.mercy_administrator),
        )
        async with engine:
            theirs = await written(engine, observation(elsewhere))
        record, other = [await written(people.engine, observation(patient)) for _ in range(2)]

        # While a majority is there, it is the only way.
        with pytest.raises(MeshError) as refused:
            await opened(clinician, record)
        assert refused.value.code_name == "CONFLICT"

        alone.supervisor.signal_program(AWAY, "STOP")

        async def stands_still() -> bool:
            return (await clinician.emergency.standstill()).stands_still

        await until(stands_still, "the channel stands still", deadline_seconds=150, every_seconds=1)
        with pytest.raises(MeshError):
            await clinician.records.break_glass(record.patient, record.record_id, 1, "unconscious")

        reading = await opened(clinician, record)
        assert reading.content == record.content
        assert reading.proof.endorsers == ("MercyMSP",)

        told = await until(lambda: notified(patient, "emergency.opened"), "the patient is told at once")
        assert (told.actor, told.record_id, told.tx_id) == (
            *(clinician.wallet.address, record.record_id),
            "",
        )
        for who, what, code in (
            (clinician, theirs, "FORBIDDEN"),
            (people.engine, other, "FORBIDDEN"),
        ):
            with pytest.raises(MeshError) as refused:
                await opened(who, what)
            assert refused.value.code_name == code
        assert [entry.entry.action for entry in await patient.trail.audit()].count("emergency-access") == 0
        [kept] = await people.mercy_administrator.emergency.kept(unrecorded_only=True)
        assert kept.told

        alone.supervisor.signal_program(AWAY, "CONT")

        async def on_record() -> bool:
            return not await people.mercy_administrator.emergency.kept(unrecorded_only=True)

        await until(on_record, "it is on record", deadline_seconds=120, every_seconds=1)
        [kept] = await people.mercy_administrator.emergency.kept()
        assert kept.recorded
        assert not kept.objection
        entries = [entry.entry for entry in await patient.trail.audit()]
        [entry] = [one for one in entries if one.action == "emergency-access"]
        assert (entry.command_id, entry.signer) == (reading.command_id, clinician.wallet.address)
        assert entry.opened_at_ms < entry.at_ms
        await until(lambda: notified(patient, "emergency.recorded"), "the patient hears that it is on record")
        for reviewer in (people.mercy_administrator, people.lakeside_administrator):
            address = clinician.wallet.address
            why = await reviewer.registration.broken_glass(reading.command_id, address)
            assert (why.record_id, why.reason) == (record.record_id, "unconscious")
            await reviewer.registration.review_break_glass(reading.command_id, address, justified=True)
        closed = [one.entry.review_closed for one in await patient.trail.audit() if one.entry.break_glass_id]
        assert closed == [False, True]
        with pytest.raises(MeshError) as refused:
            await opened(clinician, other)
        assert refused.value.code_name == "CONFLICT"


async def opened(clinician: Client, record: NewRecord) -> EmergencyReading:
    return await clinician.emergency.open(record.patient, record.record_id, record.version, "unconscious")
