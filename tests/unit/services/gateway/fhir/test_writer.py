"""Writes of plain FHIR clients, as far as time and allowances decide."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt, SubmitRequest, SubmitResponse
from services.gateway.domain.session import Session
from services.gateway.fhir.writer import FhirWriter
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.sessions.delegated_signer import DelegatedSigner
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.device import Device
from services.runtime.errors import MeshError
from services.runtime.side_process import SideProcess
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import CHANNEL, Person, an_observation, checker

CLINICIAN, PATIENT, DEVICE = Person(role=Role.ROLE_CLINICIAN), Person(role=Role.ROLE_PATIENT), Person()
SIGNED = CLINICIAN.delegate(DEVICE.address, actions=("write",))
SESSION = Session(
    *(CLINICIAN.address, "clinician", "MercyMSP", "", "jkt", "", 2**40),
    delegation=(SIGNED.delegation, SIGNED.signature),
)
GOOD = orjson.dumps({**an_observation(), "subject": {"reference": f"Patient/{PATIENT.address}"}})


@dataclass
class Commands:
    """Commits whatever comes, as long as `open` is set."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    submitted: list[SubmitRequest] = field(default_factory=list)

    async def submit(
        self, request: SubmitRequest, session: Session, *, signed_here: bool = False
    ) -> SubmitResponse:
        self.submitted.append(request)
        await self.open.wait()
        receipt = RecordReceipt()
        receipt.receipt.code = code_pb2.CODE_OK
        return SubmitResponse(receipts=[receipt])


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


_asides: list[SideProcess] = []


def _begun(aside: SideProcess) -> SideProcess:
    _asides.append(aside)
    return aside


@pytest.fixture(autouse=True)
async def none_is_left() -> AsyncIterator[None]:
    yield
    while _asides:
        await _asides.pop().__aexit__()


def writer_of(commands: Commands, clock: Clock, most: int = 2) -> FhirWriter:
    delegations = Delegations(device=DEVICE.address, channel=CHANNEL)
    device = Device(DEVICE.key, DEVICE.hpke_keys[0], b"", DEVICE.address)
    return FhirWriter(
        DelegatedSigner(device, delegations, channel=CHANNEL, is_registered=lambda: True),
        ledger=FakeLedger(),
        commands=commands,
        checker=checker(),
        side_process=_begun(SideProcess(Metrics("gateway"), name="check")),
        refused=RefusalQuotas(most, 1.0, clock=clock),
    )


async def test_who_sends_what_is_refused_without_end_waits_and_then_may_go_on() -> None:
    commands, clock = Commands(), Clock()
    commands.open.set()
    writer = writer_of(commands, clock)
    for _ in range(2):
        with pytest.raises(MeshError) as refused:
            await writer.create(SESSION, "Observation", b"{}")
        assert refused.value.code == code_pb2.CODE_INVALID

    with pytest.raises(MeshError) as waits:
        await writer.create(SESSION, "Observation", GOOD)

    assert waits.value.code == code_pb2.CODE_RESOURCE_EXHAUSTED
    assert waits.value.retry_after_ms > 0
    clock.now += waits.value.retry_after_ms / 1000
    assert (await writer.create(SESSION, "Observation", GOOD)).version == 1


async def test_a_resource_that_fills_its_message_is_too_large_and_goes_nowhere() -> None:
    commands = Commands()
    commands.open.set()
    note = "x" * (16 * 1024 * 1024 - len(GOOD) - 30)
    large = orjson.dumps({**orjson.loads(GOOD), "note": [{"text": note}]})
    assert len(large) <= 16 * 1024 * 1024

    with pytest.raises(MeshError) as refused:
        await writer_of(commands, Clock()).create(SESSION, "Observation", large)

    assert (refused.value.code, commands.submitted) == (code_pb2.CODE_TOO_LARGE, [])
