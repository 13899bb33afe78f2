"""Reads: decided together, opened together, and each with its own outcome."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Consent, Role, SignedCommand
from cbmdhi.gateway.v1.gateway_pb2 import GetProofRequest, ReadManyRequest, ReadRequest, ReadResult
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.session import Session
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.reads.open_batcher import OpenBatcher
from services.gateway.reads.reader import RecordReader
from services.gateway.rpc import records as records_module
from services.gateway.rpc.records import Records
from services.runtime.errors import MeshError, code_name
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_people import CHANNEL, Person, Put, put
from tests.support.waiting import until
from tests.unit.services.gateway.conftest import World


@dataclass
class Chart:
    """A clinician, and records of the patient's."""

    world: World
    clinician: Person
    written: list[Put]
    opens: OpenBatcher
    reader: RecordReader
    records: Records
    refused: RefusalQuotas

    def accesses(self) -> list[SignedCommand]:
        patient = self.world.patient.address
        return [self.clinician.access(patient, one.body.record_id) for one in self.written]

    @property
    def session(self) -> Session:
        return Session(self.clinician.address, "clinician", "MercyMSP", "", "jkt", "", 2**40)

    async def read(self, commands: Sequence[SignedCommand]) -> Sequence[ReadResult]:
        return (await self.records.read_many(ReadManyRequest(commands=commands), self.session)).results

    def places(self, *numbers: int) -> list[tuple[str, int]]:
        return sorted((self.written[number].body.record_id, 1) for number in numbers)


@pytest.fixture
async def chart(world: World) -> AsyncIterator[Chart]:
    clinician = Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(clinician)
    written = [put(world.engine, world.patient) for _ in range(6)]
    for one in written:
        assert await world.code_of(one) == "OK"
    async with OpenBatcher(world.storage, Metrics("gateway")) as opens:
        refused = RefusalQuotas(100, 0.001)
        reader = RecordReader(world.pipeline, opens, refused)
        yield Chart(
            world,
            clinician,
            written,
            opens,
            reader,
            Records(reader, *cast("tuple[Any, Any, Any, Any]", (None, None, world.ledger, None))),
            refused,
        )
        world.storage.hold.set()


def outcome(result: ReadResult) -> str:
    if result.HasField("error"):
        return f"error {code_name(result.error.code)}"
    return code_name(result.read.receipt.code)


async def test_a_chart_is_decided_and_opened_in_one_go_and_in_order(chart: Chart) -> None:
    before = len(chart.world.ledger.submitted)
    results = await chart.read(chart.accesses())
    assert [result.read.opened.record.record_id for result in results] == [
        one.body.record_id for one in chart.written
    ]
    assert [outcome(result) for result in results] == ["OK"] * 6
    assert len(chart.world.ledger.submitted) - before == 1
    assert chart.world.storage.opened_together == [6]


async def test_one_bad_command_harms_no_other(chart: Chart) -> None:
    commands = chart.accesses()
    stranger = Person(role=Role.ROLE_CLINICIAN)
    chart.world.ledger.register(stranger)
    patient = chart.world.patient.address
    commands[0] = stranger.access(patient, chart.written[0].body.record_id)
    consent = Consent(consent_id=uuid7(), patient=patient)
    commands[1] = chart.clinician.sign_command(command.make(consent, channel=CHANNEL))
    commands[2] = SignedCommand(command=b"\xff", signer=chart.clinician.address)
    refused, _ = command.parse(commands[3])
    chart.world.ledger.refuse[refused.command_id] = (code_pb2.CODE_FORBIDDEN, "no consent permits it")
    damaged, _ = command.parse(commands[4])
    chart.world.storage.refuse_open[damaged.command_id] = code_pb2.CODE_INTEGRITY

    results = await chart.read(commands)

    assert [outcome(result) for result in results] == [
        "error FORBIDDEN",
        "error INVALID",
        "error INVALID",
        "FORBIDDEN",
        "error INTEGRITY",
        "OK",
    ]
    assert [result.error.path for result in results[:3]] == [
        "commands[0].signer",
        "commands[1]",
        "commands[2]",
    ]
    assert not results[3].read.HasField("opened")
    signers = {
        signed.signer
        for batch in chart.world.ledger.submitted
        for one in batch
        for signed in one.item.group.commands
    }
    assert stranger.address not in signers


async def test_nothing_is_opened_before_the_decision_is_committed(chart: Chart) -> None:
    chart.world.ledger.hold.clear()
    before = len(chart.world.ledger.submitted)
    reading = asyncio.create_task(chart.read(chart.accesses()))
    await until(lambda: len(chart.world.ledger.submitted) > before, "the accesses are on their way")
    assert chart.world.storage.opened_together == []
    chart.world.ledger.hold.set()
    assert [outcome(result) for result in await reading] == ["OK"] * 6


async def test_what_does_not_fit_into_the_answer_is_to_be_read_alone(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = await chart.read(chart.accesses()[:1])
    monkeypatch.setattr(records_module, "_MOST_BYTES", 3 * one.ByteSize())
    commands = chart.accesses()
    last, _ = command.parse(commands[-1])
    chart.world.storage.refuse_open[last.command_id] = code_pb2.CODE_TOO_LARGE
    before = len(chart.world.storage.opened)
    results = await chart.read(commands)
    # The last is not opened alone for an answer that is full already.
    assert len(chart.world.storage.opened) - before == 5
    fits = [outcome(result) for result in results].count("OK")
    assert [outcome(result) for result in results] == ["OK"] * fits + ["error TOO_LARGE"] * (6 - fits)
    assert 1 <= fits <= 3


async def test_none_and_too_many_are_refused_as_a_whole(chart: Chart) -> None:
    for commands, code in (([], "INVALID"), (chart.accesses()[:1] * 101, "TOO_LARGE")):
        with pytest.raises(MeshError) as caught:
            await chart.read(commands)
        assert code_name(caught.value.code) == code


async def test_what_was_too_large_among_others_is_opened_alone(chart: Chart) -> None:
    commands = chart.accesses()
    large, _ = command.parse(commands[2])
    chart.world.storage.refuse_open[large.command_id] = code_pb2.CODE_TOO_LARGE
    assert [outcome(result) for result in await chart.read(commands)] == ["OK"] * 6


async def test_a_lone_open_leaves_at_once_and_those_that_come_meanwhile_leave_together(chart: Chart) -> None:
    chart.world.storage.hold.clear()
    together = chart.world.storage.opened_together
    first, *others = chart.accesses()
    readings = [asyncio.create_task(chart.reader.read(first))]
    await until(lambda: together == [1], "the first is on its way")
    readings += [asyncio.create_task(chart.reader.read(one)) for one in others]
    await until(lambda: sum(together) == 6, "the others follow")
    chart.world.storage.hold.set()
    assert all(answer.HasField("opened") for answer in await asyncio.gather(*readings))
    assert len(together) <= 3


async def test_a_reader_that_goes_away_leaves_the_others_their_answers(chart: Chart) -> None:
    chart.world.storage.hold.clear()
    first, second, *_ = chart.accesses()
    leaving, staying = (asyncio.create_task(chart.reader.read(one)) for one in (first, second))
    await until(lambda: sum(chart.world.storage.opened_together) == 2, "both are on their way")
    leaving.cancel()
    chart.world.storage.hold.set()
    assert (await staying).HasField("opened")
    with pytest.raises(asyncio.CancelledError):
        await leaving


async def test_a_storage_that_is_away_is_every_readers_error(chart: Chart) -> None:
    chart.world.storage.failure = MeshError(code_pb2.CODE_UNAVAILABLE, "away")
    results = await chart.read(chart.accesses())
    assert [outcome(result) for result in results] == ["error UNAVAILABLE"] * 6


async def test_what_was_committed_is_opened_before_the_gateway_ends(chart: Chart) -> None:
    chart.world.storage.hold.clear()
    reading = asyncio.create_task(chart.reader.read(chart.accesses()[0]))
    await until(lambda: chart.world.storage.opened_together == [1], "it is on its way")
    closing = asyncio.create_task(chart.opens.__aexit__(None, None, None))
    await asyncio.sleep(0)
    assert not closing.done()
    chart.world.storage.hold.set()
    await closing
    assert (await reading).HasField("opened")


async def test_an_answer_proves_what_it_gives_and_nothing_else(chart: Chart) -> None:
    refused, permitted, known = chart.accesses()[:3]
    refused_id = command.parse(refused)[0].command_id
    chart.world.ledger.refuse[refused_id] = (code_pb2.CODE_FORBIDDEN, "no consent permits it")

    request = ReadManyRequest(commands=[refused, permitted, known], proven=[2])
    answer = await chart.records.read_many(request, chart.session)

    assert [outcome(one) for one in answer.results] == ["FORBIDDEN", "OK", "OK"]
    assert chart.world.ledger.proven == [chart.places(1)]
    assert answer.evidence.endorsed_state
    assert not any(one.read.HasField("evidence") for one in answer.results)


async def test_a_single_reading_brings_its_evidence_unless_the_reader_has_it(chart: Chart) -> None:
    signed = chart.accesses()[0]

    first = await chart.records.read(ReadRequest(command=signed), chart.session)
    again = await chart.records.read(ReadRequest(command=signed, proven=True), chart.session)

    assert (first.HasField("evidence"), again.HasField("evidence")) == (True, False)
    assert chart.world.ledger.proven == [chart.places(0)]


async def test_a_proof_is_asked_for_in_the_callers_name_alone(chart: Chart) -> None:
    command_id, signer = uuid7(), Person().address
    request = GetProofRequest(command_id=command_id, signer=signer)

    answer = await chart.records.get_proof(request, chart.session)

    asked = f"{command_id} of {signer} for {chart.clinician.address}"
    assert answer.evidence.endorsed_state.decode() == asked


@pytest.mark.parametrize("together", [True, False])
async def test_refused_reads_are_charged_as_refused_writes_are(chart: Chart, together: bool) -> None:
    refused = chart.accesses()[:2]
    for one in refused:
        command_id = command.parse(one)[0].command_id
        chart.world.ledger.refuse[command_id] = (code_pb2.CODE_FORBIDDEN, "no consent permits it")
    quota = chart.refused.of(chart.clinician.address)
    quota._bucket.spend(quota._clock(), 98)

    if together:
        await chart.read(refused)
    else:
        for one in refused:
            await chart.records.read(ReadRequest(command=one), chart.session)
    with pytest.raises(MeshError) as caught:
        await chart.read(chart.accesses()[3:])

    assert code_name(caught.value.code) == "RESOURCE_EXHAUSTED"
    assert caught.value.retry_after_ms > 0


async def test_who_does_not_wait_for_a_refusal_pays_for_it(chart: Chart) -> None:
    [one] = chart.accesses()[:1]
    chart.world.ledger.refuse[command.parse(one)[0].command_id] = (code_pb2.CODE_FORBIDDEN, "no")
    quota = chart.refused.of(chart.clinician.address)
    quota._bucket.spend(quota._clock(), 99)
    chart.world.ledger.hold.clear()
    before = len(chart.world.ledger.submitted)
    reading = asyncio.create_task(chart.read([one]))
    await until(lambda: len(chart.world.ledger.submitted) > before, "it is on its way")
    reading.cancel()
    chart.world.ledger.hold.set()

    await until(lambda: quota.wait_seconds() > 0, "it is charged")
