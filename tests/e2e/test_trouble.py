"""Programs die and come back; the mesh goes on by itself and loses nothing that it acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared, Written
from cbmdhi.errors import MeshError
from cbmdhi.waiting import until
from ops.devnet import Network
from tests.e2e.conftest import People, observation

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROGRAMS = (
    "mercy-peer",
    "lakeside-peer",
    "mercy-ipfs",
    "lakeside-ipfs",
    "mercy-chaincode",
    "ordering-orderer",
)


async def eventually_written(engine: Client, record: NewRecord) -> Written:
    """Send one record, always the same bytes, until it is committed."""
    prepared = engine.records.prepare(record)

    async def attempt() -> Written | None:
        return await _once(engine, prepared)

    return await until(attempt, "the record is committed", deadline_seconds=90)


async def _once(engine: Client, prepared: Prepared) -> Written | None:
    try:
        [result] = [entry async for entry in engine.records.send([prepared])]
    except MeshError as error:
        if error.code_name not in (
            "UNAVAILABLE",
            "DEADLINE_EXCEEDED",
            "RESOURCE_EXHAUSTED",
            "UNAUTHENTICATED",
        ):
            raise
        return None
    return result if result.ok else None


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.timeout(240)
async def test_after_a_program_was_killed_records_are_written_and_read_again(
    network: Network, people: People, patient: Client, program: str
) -> None:
    before = await eventually_written(people.engine, observation(patient))
    await asyncio.to_thread(network.kill, program)
    after = await eventually_written(people.engine, observation(patient))
    for written in (before, after):
        record = written.record

        async def read(record: NewRecord = record) -> bytes:
            try:
                return (await patient.records.read(record.patient, record.record_id, 1, "PATRQT")).content
            except MeshError as error:
                if error.code_name in ("FORBIDDEN", "INTEGRITY"):
                    raise
                return b""

        assert await until(read, "the record is read", deadline_seconds=90) == record.content


@pytest.mark.timeout(240)
async def test_when_nats_was_away_the_notifications_come_all_the_same(
    network: Network, people: People
) -> None:
    async with await people.new_patient() as patient:
        await asyncio.to_thread(network.kill, "mercy-nats")
        written = await eventually_written(people.engine, observation(patient))

        async def told() -> bool:
            try:
                found = await patient.inbox.list()
            except MeshError:
                return False
            return written.record.record_id in {entry.record_id for entry in found}

        await until(told, "the notification of the record arrives", deadline_seconds=90)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("service", ["identity", "ledger", "storage", "gateway", "notify"])
async def test_a_killed_service_is_started_again_and_goes_on(
    network: Network, people: People, patient: Client, service: str
) -> None:
    await asyncio.to_thread(network.kill, f"mercy-{service}")
    assert (await eventually_written(people.engine, observation(patient))).ok

    async def inbox() -> bool:
        try:
            return bool(await patient.inbox.list())
        except MeshError:
            return False

    await until(inbox, "the inbox answers", deadline_seconds=60)
