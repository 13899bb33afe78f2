"""Reads of plain FHIR clients: what is large is parsed elsewhere, and what is refused is charged."""

import asyncio
from typing import Any

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role, SignedCommand
from cbmdhi.gateway.v1.gateway_pb2 import ReadResponse
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.session import Session
from services.gateway.fhir import reader as reader_module
from services.gateway.fhir.large_contents import LARGE_BYTES
from services.gateway.fhir.reader import FhirReader
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.sessions.delegated_signer import DelegatedSigner
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.device import Device
from services.runtime.errors import MeshError, code_name
from services.runtime.side_process import SideProcess
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_people import CHANNEL, Person, an_observation, put
from tests.unit.services.gateway.conftest import World

CLINICIAN, DEVICE = Person(role=Role.ROLE_CLINICIAN), Person()
SIGNED = CLINICIAN.delegate(DEVICE.address)
SESSION = Session(
    *(CLINICIAN.address, "clinician", "MercyMSP", "", "jkt", "", 2**40),
    delegation=(SIGNED.delegation, SIGNED.signature),
)


class Reads:
    """Permits whatever is asked, or says why not; what storage opens is `opened`."""

    def __init__(self, world: World, code: int = code_pb2.CODE_OK) -> None:
        self.world, self.code = world, code

    async def read(self, signed: SignedCommand) -> ReadResponse:
        answer = ReadResponse()
        answer.receipt.code = self.code  # type: ignore[assignment]
        answer.receipt.outcome = code_pb2.OUTCOME_COMMITTED
        answer.receipt.command_id = command.parse(signed)[0].command_id
        return answer


def reader_of(world: World, reads: Any, aside: SideProcess, most: int = 10) -> FhirReader:
    device = Device(DEVICE.key, DEVICE.hpke_keys[0], b"", DEVICE.address)
    delegations = Delegations(device=DEVICE.address, channel=CHANNEL)
    signer = DelegatedSigner(device, delegations, channel=CHANNEL, is_registered=lambda: True)
    return FhirReader(signer, world.ledger, reads, refused=RefusalQuotas(most, 0.001), side_process=aside)


@pytest.mark.parametrize("large", [True, False])
async def test_a_large_content_is_parsed_in_the_process_for_that(
    world: World, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = {"note": [{"text": "x" * LARGE_BYTES}]} if large else {}
    one = put(world.engine, world.patient, {**an_observation(), **note})
    assert await world.code_of(one) == "OK"
    content = one.contents[0].content
    monkeypatch.setattr(reader_module.released, "open_released", lambda *_: content)
    asked: list[str] = []

    async with SideProcess(Metrics("gateway"), name="check") as aside:
        run = aside.run

        async def noted(work: Any, *arguments: Any, **more: Any) -> Any:
            asked.append(work.__name__)
            return await run(work, *arguments, **more)

        aside.run = noted  # type: ignore[method-assign]
        reader = reader_of(world, Reads(world), aside)
        found = await reader.read(SESSION, "Observation", one.body.record_id, 0, "TREAT")
        with pytest.raises(MeshError) as another:
            await reader.read(SESSION, "Condition", one.body.record_id, 0, "TREAT")

    assert (found.content, found.version) == (content, 1)
    assert code_name(another.value.code) == "NOT_FOUND"
    assert asked == (["read_type"] * 2 if large else [])


async def test_a_large_content_that_is_not_its_records_is_told_as_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = put(world.engine, world.patient)
    assert await world.code_of(one) == "OK"
    other = orjson.dumps({**an_observation(), "id": uuid7(), "note": [{"text": "x" * LARGE_BYTES}]})
    monkeypatch.setattr(reader_module.released, "open_released", lambda *_: other)

    async with SideProcess(Metrics("gateway"), name="check") as aside:
        with pytest.raises(MeshError) as caught:
            await reader_of(world, Reads(world), aside).read(
                SESSION, "Observation", one.body.record_id, 0, "TREAT"
            )

    assert code_name(caught.value.code) == "INTEGRITY"


async def test_refused_reads_over_rest_are_charged_too(world: World) -> None:
    one = put(world.engine, world.patient)
    assert await world.code_of(one) == "OK"
    async with SideProcess(Metrics("gateway"), name="check") as aside:
        reader = reader_of(world, Reads(world, code_pb2.CODE_FORBIDDEN), aside, most=2)
        codes, certain = list[str](), list[int]()
        for record_id in (one.body.record_id, uuid7(), one.body.record_id):
            with pytest.raises(MeshError) as caught:
                await reader.read(SESSION, "Observation", record_id, 0, "TREAT")
            codes.append(code_name(caught.value.code))
            certain.append(caught.value.outcome)
            await asyncio.sleep(0)

    assert codes == ["FORBIDDEN", "NOT_FOUND", "RESOURCE_EXHAUSTED"]
    # The refusal is on the channel, as a write's would be.
    assert certain[0] == code_pb2.OUTCOME_COMMITTED
