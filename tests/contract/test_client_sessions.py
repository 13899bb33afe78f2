"""The SDK at the real gateway: calls, streams and FHIR sessions outlive their tokens, and nobody notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from cbmdhi.client.records import NewRecord, Written
from cbmdhi.identity.v1.identity_pb2 import LoginRequest
from cbmdhi.protocol.ids import uuid7
from tests.contract.client_wallet import client_of
from tests.contract.gateway_app import CLINICIAN, App
from tests.contract.gateway_app import written as written_by
from tests.contract.gateway_calls import ENGINE, PATIENT
from tests.contract.gateway_member import Member
from tests.support.fakes.gateway_people import Person, an_observation
from tests.support.waiting import until

pytest_plugins = ("tests.contract.gateway_fixtures",)

TOKENS = 7
"""More than a stream could outlive when each end of a token counted as a broken line."""


def logins(member: Member, person: Person) -> int:
    return sum(
        isinstance(one, LoginRequest) and one.address == person.address for one in member.heard.requests
    )


def a_record() -> NewRecord:
    return NewRecord.of(PATIENT.address, an_observation(), uuid7())


async def test_an_engine_streams_calls_and_listens_through_many_tokens_without_a_word(
    member: Member, tmp_path: Path
) -> None:
    member.tokens.seconds = 3
    heard: list[int] = []

    async with client_of(ENGINE, member, tmp_path) as engine:

        def is_over() -> bool:
            return logins(member, ENGINE) >= TOKENS

        async def records() -> AsyncIterator[NewRecord]:
            while not is_over():
                yield a_record()
                await asyncio.sleep(0.05)

        async def stream() -> list[Written]:
            return [one async for one in engine.records.send(records(), patience_seconds=10.0)]

        async def ask() -> int:
            asked = 0
            while not is_over():
                await engine.registration.identity(PATIENT.address)
                asked += 1
                await asyncio.sleep(0.02)
            return asked

        async def listen() -> None:
            async with aclosing(engine.inbox.stream(patience_seconds=10.0)) as notifications:
                async for one in notifications:
                    heard.append(one.notification_id)
                    if is_over():
                        return

        sent, asked, _ = await asyncio.wait_for(asyncio.gather(stream(), ask(), listen()), 100)

    assert all(one.ok for one in sent)
    assert len({one.command_id for one in sent}) == len(sent) > TOKENS
    assert asked > TOKENS
    assert heard == list(range(1, len(heard) + 1))
    # Everything of one client shares its token.
    assert logins(member, ENGINE) <= TOKENS + 2


async def test_results_that_take_longer_than_seven_tokens_still_come(member: Member, tmp_path: Path) -> None:
    member.tokens.seconds = 1
    member.ledger.hold.clear()
    async with client_of(ENGINE, member, tmp_path, deadline_seconds=60.0) as engine:

        async def release() -> None:
            await until(lambda: logins(member, ENGINE) >= TOKENS, "seven tokens", 60)
            member.ledger.hold.set()

        written, _ = await asyncio.gather(engine.records.put([a_record() for _ in range(5)]), release())
    assert all(one.ok for one in written)


async def test_a_fhir_session_outlives_its_tokens_and_its_delegations(app: App, tmp_path: Path) -> None:
    member = app.member
    member.tokens.seconds = 1
    one = await written_by(app)
    path = one.body.record_id
    async with client_of(CLINICIAN, member, tmp_path) as clinician, clinician.fhir() as session:
        await until(lambda: member.device.address in member.ledger.people, "the device is registered", 10)
        reads = 0
        while logins(member, CLINICIAN) < TOKENS:
            assert (await session.read("Observation", path))["resourceType"] == "Observation"
            reads += 1
            await asyncio.sleep(0.05)
    assert reads > TOKENS
