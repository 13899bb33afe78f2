"""What the gateway counts: decisions by outcome, latency by kind, and never anybody."""

from prometheus_client import CollectorRegistry

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, Role
from cbmdhi.protocol import command
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_neighbours import FakeLedger, FakeStorage
from tests.support.fakes.gateway_people import Person, put
from tests.unit.services.gateway.conftest import build, start


def series(registry: CollectorRegistry) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


async def test_a_hundred_people_make_no_more_series_than_one() -> None:
    ledger, metrics = FakeLedger(), Metrics("gateway")
    people = [(Person(), Person(role=Role.ROLE_PATIENT)) for _ in range(50)]
    ledger.register(*(one for pair in people for one in pair))
    pipeline, _ = build(ledger, FakeStorage(ledger), metrics)

    async def write(engine: Person, patient: Person) -> None:
        one = put(engine, patient)
        (entry,) = await start(pipeline, one.group, one.contents, 1_000)
        assert entry.receipt.code == code_pb2.CODE_OK

    async with pipeline:
        await write(*people[0])
        first = series(metrics.registry)
        for engine, patient in people[1:]:
            await write(engine, patient)
        after = series(metrics.registry)

    assert after == first
    text = repr(after)
    assert not any(one.address in text for pair in people for one in pair)
    assert metrics.registry.get_sample_value("cbmdhi_gateway_submissions_total", {"code": "OK"}) == 50
    kind = {"kind": "records"}
    assert metrics.registry.get_sample_value("cbmdhi_gateway_submission_seconds_count", kind) == 50


async def test_accesses_are_counted_by_what_was_decided() -> None:
    ledger, metrics = FakeLedger(), Metrics("gateway")
    engine, patient = Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(engine, patient)
    pipeline, _ = build(ledger, FakeStorage(ledger), metrics)

    async with pipeline:
        one = put(engine, patient)
        await start(pipeline, one.group, one.contents, 1_000)
        permitted, refused = (engine.access(patient.address, one.body.record_id) for _ in range(2))
        ledger.refuse[command.parse(refused)[0].command_id] = (code_pb2.CODE_FORBIDDEN, "no consent")
        for signed in (permitted, refused):
            await start(pipeline, CommandGroup(commands=[signed]), [], 100)

    def decided(code: str) -> float | None:
        labels = {"kind": "access", "code": code}
        return metrics.registry.get_sample_value("cbmdhi_gateway_access_decisions_total", labels)

    assert decided("OK") == 1
    assert decided("FORBIDDEN") == 1
