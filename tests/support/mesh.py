"""One real network of two hospitals on ports of its own, its staff, and what they write."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from cbmdhi import fhir
from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol.ids import uuid7
from cbmdhi.waiting import until
from cbmdhi.wallet import Wallet
from ops.demo import cast, data
from ops.demo.cast import Stage
from ops.devnet import Network


@dataclass
class People:
    """The staff of both hospitals."""

    stage: Stage
    mercy_administrator: Client
    lakeside_administrator: Client
    mercy_clinician: Client
    lakeside_clinician: Client
    engine: Client

    def newcomer(self, role: pb.Role = pb.ROLE_PATIENT, member: str = "mercy") -> Client:
        """Somebody with new keys whom nobody knows yet."""
        return Client(self.stage.wallet(f"{pb.Role.Name(role).lower()}-{uuid7()}", member, role), member)

    async def new_patient(self) -> Client:
        """A patient of mercy, reviewed by both hospitals, active."""
        client = self.newcomer()
        await client.registration.enrol()
        await client.registration.register(data.evidence(data.history(seed=1)))
        for administrator in (self.mercy_administrator, self.lakeside_administrator):
            await cast.approve(administrator, client.wallet.address)
        await until(lambda: cast.is_active(client), "the patient is active")
        return client


@contextlib.contextmanager
def running(home: Path, *, traced: bool) -> Iterator[Network]:
    """A network, gone afterwards."""
    made = Network(home)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(made.clean)
        made.up(traced=traced)
        yield made


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with running(tmp_path_factory.mktemp("mesh"), traced=True) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def people(network: Network) -> AsyncIterator[People]:
    stage = Stage.of(network.home, network.endpoints())
    async with contextlib.AsyncExitStack() as clients:
        mercy = await clients.enter_async_context(await cast.administrator(stage, "mercy"))
        lakeside = await clients.enter_async_context(await cast.administrator(stage, "lakeside"))
        staff = [
            await clients.enter_async_context(await cast.member_of_staff(stage, member, name, role, by, also))
            for member, name, role, by, also in (
                ("mercy", "mercy-clinician", pb.ROLE_CLINICIAN, mercy, lakeside),
                ("lakeside", "lakeside-clinician", pb.ROLE_CLINICIAN, lakeside, mercy),
                ("mercy", "mercy-engine", pb.ROLE_ENGINE, mercy, lakeside),
            )
        ]
        yield People(stage, mercy, lakeside, *staff)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def patient(people: People) -> AsyncIterator[Client]:
    """A patient shared by tests that do not mind what others wrote about them."""
    async with await people.new_patient() as client:
        yield client


def observation(patient: Client | Wallet, **changes: object) -> NewRecord:
    """A valid observation about a patient."""
    wallet = patient.wallet if isinstance(patient, Client) else patient
    bundle = data.history(seed=3)
    resource = next(
        entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"
    )
    for name in ("encounter", "performer", "subject"):
        resource.pop(name, None)
    [record] = fhir.records_of({**resource, **changes}, wallet.address)
    return record
