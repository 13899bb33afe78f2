"""One group at a time: what its sender pays for when it is refused."""

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import SubmitRequest
from services.gateway.pipeline.client_quota import ClientLimits, ClientQuotas
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.rpc.commands import Commands
from services.runtime.errors import MeshError
from services.runtime.side_process import SideProcess
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_people import an_observation, put
from tests.unit.services.gateway.conftest import World, build
from tests.unit.services.gateway.rpc.test_ingest import Clock, session

MIB = 1 << 20


def quotas_of(most: int) -> ClientQuotas:
    limits = ClientLimits(commands=100, in_bytes=64 * MIB, streams=1)
    return ClientQuotas(limits, 64 * MIB, RefusalQuotas(most, 0.001, clock=Clock()))


async def test_what_is_refused_is_paid_for_however_it_was_sent(world: World) -> None:
    quotas = quotas_of(1)
    commands = Commands(world.pipeline, quotas, world.ledger)  # type: ignore[arg-type]
    bad, good = put(world.engine, world.patient, version=0), put(world.engine, world.patient)

    await commands.submit(SubmitRequest(group=bad.group, contents=bad.contents), session(world.engine))
    with pytest.raises(MeshError) as waits:
        await commands.submit(SubmitRequest(group=good.group, contents=good.contents), session(world.engine))

    assert (waits.value.code, waits.value.nothing_done) == (code_pb2.CODE_RESOURCE_EXHAUSTED, True)
    assert waits.value.retry_after_ms > 0


async def test_who_makes_the_check_of_its_content_run_out_of_time_pays_for_it(world: World) -> None:
    large = {**an_observation(), "note": [{"text": "x" * 100_000}]}
    one, quotas = put(world.engine, world.patient, large), quotas_of(1)
    # To load the schemas alone takes longer.
    async with SideProcess(Metrics("gateway"), name="check", cpu_seconds=0.001) as aside:
        pipeline, _ = build(world.ledger, world.storage, aside=aside)
        async with pipeline:
            commands = Commands(pipeline, quotas, world.ledger)  # type: ignore[arg-type]
            with pytest.raises(MeshError) as refused:
                await commands.submit(
                    SubmitRequest(group=one.group, contents=one.contents), session(world.engine)
                )

    assert (refused.value.code, refused.value.nothing_done) == (code_pb2.CODE_TOO_LARGE, True)
    assert quotas.of(world.engine.address).refusals.wait_seconds() > 0
