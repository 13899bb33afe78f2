"""What is asked of the ledger: many things at once, and once for as long as the answer may be old."""

from __future__ import annotations

import asyncio

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_SUSPENDED
from services.runtime import ttl_cache
from services.runtime.errors import MeshError
from tests.support.fakes.committed_channel import item
from tests.support.fakes.two_storages import World


class Clock:
    """What the caches believe the time is, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ttl_cache, "time", clock)
    return clock


async def test_a_batch_of_new_patients_is_two_questions(world: World) -> None:
    patients = [world.patient().address for _ in range(30)]
    await world.mercy.sealing.seal([item(address) for address in patients * 2])
    ledger = world.mercy.ledger
    assert [sorted(asked) for asked in ledger.asked_for_identities] == [sorted(patients)]
    assert [sorted(asked) for asked in ledger.asked_for_writer_keys] == [sorted(patients)]


async def test_a_patient_is_known_for_hours_and_a_stranger_never(world: World, clock: Clock) -> None:
    patient, stranger = world.patient().address, "cb1" + "a" * 32
    ledger = world.mercy.ledger
    for _ in range(2):
        await world.mercy.sealing.seal([item(patient), item(stranger)])
    assert ledger.asked_for_identities[1:] == [[stranger]]
    clock.now += 4 * 3_600
    await world.mercy.sealing.seal([item(patient)])
    assert ledger.asked_for_identities[2:] == []
    clock.now += 2 * 3_600 + 1
    await world.mercy.sealing.seal([item(patient)])
    assert ledger.asked_for_identities[2:] == [[patient]]


async def test_patients_who_were_looked_up_together_are_not_all_forgotten_together(
    world: World, clock: Clock
) -> None:
    patients = [world.patient().address for _ in range(60)]
    await world.mercy.sealing.seal([item(patient) for patient in patients])
    clock.now += 5.25 * 3_600
    await world.mercy.sealing.seal([item(patient) for patient in patients])
    again = world.mercy.ledger.asked_for_identities[1]
    assert 0 < len(again) < len(patients)


async def test_a_patient_whom_no_registration_certifies_is_refused_alone(world: World) -> None:
    forged, patient = world.patient().address, world.patient().address
    world.mercy.ledger.uncertified.add(forged)
    batch = await world.mercy.sealing.seal([item(forged), item(patient)])
    refusal, sealed = batch.results
    assert refusal.code == code_pb2.CODE_INTEGRITY
    assert sealed.code == code_pb2.CODE_OK


async def test_many_reads_are_few_questions(world: World) -> None:
    reader, patient = world.clinician(), world.patient()
    records = [item(patient.address) for _ in range(40)]
    await world.write(*records)
    decided = [world.channel.decide(reader, record) for record in records]
    # Proven already: the reads come at a time.
    await world.lakeside.decisions.grants(decided)
    await asyncio.gather(*(world.lakeside.opening.open(*each) for each in decided))
    ledger = world.lakeside.ledger
    assert reader.address in ledger.asked_for_identities[0]
    assert len(ledger.asked_for_identities) <= 4


async def test_a_suspension_counts_within_five_seconds(world: World, clock: Clock) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    await world.mercy.opening.open(*decided)
    reader.document.status = IDENTITY_STATUS_SUSPENDED
    clock.now += 4.9
    with pytest.raises(MeshError) as caught:
        await world.mercy.opening.open(*decided)
    assert caught.value.code == code_pb2.CODE_FORBIDDEN
