"""Writes of plain FHIR clients, as far as time and allowances decide."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt, SubmitRequest, SubmitResponse
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.session import Session
from services.gateway.fhir.writer import FhirWriter, Written, WrittenBundle
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.sessions.delegated_signer import DelegatedSigner
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.device import Device
from services.runtime.deadline import current_deadline
from services.runtime.errors import MeshError, outcome_name
from services.runtime.side_process import SideProcess
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import CHANNEL, Person, an_observation, checker
from tests.support.waiting import until

CLINICIAN, PATIENT, DEVICE = Person(role=Role.ROLE_CLINICIAN), Person(role=Role.ROLE_PATIENT), Person()
SIGNED = CLINICIAN.delegate(DEVICE.address, actions=("write",))
SESSION = Session(
    *(CLINICIAN.address, "clinician", "MercyMSP", "", "jkt", "", 2**40),
    delegation=(SIGNED.delegation, SIGNED.signature),
)
GOOD = orjson.dumps({**an_observation(), "subject": {"reference": f"Patient/{PATIENT.address}"}})


STOPPING = asyncio.Event()


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
    STOPPING.clear()
    yield
    while _asides:
        await _asides.pop().__aexit__()


def writer_of(
    commands: Any, clock: Clock, most: int = 2, ledger: FakeLedger | None = None, drain_seconds: float = 10.0
) -> FhirWriter:
    delegations = Delegations(device=DEVICE.address, channel=CHANNEL)
    device = Device(DEVICE.key, DEVICE.hpke_keys[0], b"", DEVICE.address)
    return FhirWriter(
        DelegatedSigner(device, delegations, channel=CHANNEL, is_registered=lambda: True),
        ledger=ledger or FakeLedger(),
        commands=commands,
        checker=checker(),
        side_process=_begun(SideProcess(Metrics("gateway"), name="check")),
        refused=RefusalQuotas(most, 1.0, clock=clock),
        stopping=STOPPING,
        drain_seconds=drain_seconds,
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


def entry(name: str, **request: Any) -> dict[str, Any]:
    kept = {key: value for key, value in orjson.loads(GOOD).items() if key not in ("encounter", "performer")}
    resource = {**kept, "note": [{"text": name}]}
    if name == "bad":
        resource["status"] = "nope"
    return {"resource": resource, "request": {"method": "POST", "url": "Observation", **request}}


def batch(*names: str) -> bytes:
    document = {"resourceType": "Bundle", "type": "batch", "entry": [entry(name) for name in names]}
    return orjson.dumps(document)


@dataclass
class Fates(Commands):
    """What becomes of an entry is what its note says."""

    async def submit(
        self, request: SubmitRequest, session: Session, *, signed_here: bool = False
    ) -> SubmitResponse:
        [name] = [one["text"] for one in orjson.loads(request.contents[0].content)["note"]]
        self.submitted.append(request)
        answer = SubmitResponse(receipts=[RecordReceipt()])
        receipt = answer.receipts[0].receipt
        receipt.code, receipt.outcome = code_pb2.CODE_OK, code_pb2.OUTCOME_COMMITTED
        match name:
            case "crashes":
                raise RuntimeError("no")
            case "lost":
                receipt.code, receipt.outcome = code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN
            case "refused":
                receipt.code, receipt.outcome = code_pb2.CODE_FORBIDDEN, code_pb2.OUTCOME_COMMITTED
            case "slow":
                await self.open.wait()
        return answer


def told(found: WrittenBundle) -> list[tuple[str, str]]:
    return [
        (one.code_name, outcome_name(one.outcome)) if isinstance(one, MeshError) else ("OK", "COMMITTED")
        for one in found.entries
    ]


async def test_of_a_batch_each_entry_keeps_its_own_certain_answer_whatever_befalls_another() -> None:
    found = await writer_of(Fates(), Clock(), most=100).bundle(
        SESSION, batch("done", "crashes", "lost", "refused", "bad", "done")
    )

    assert told(found) == [
        ("OK", "COMMITTED"),
        ("INTERNAL", "UNKNOWN"),
        ("UNKNOWN_OUTCOME", "UNKNOWN"),
        ("FORBIDDEN", "COMMITTED"),
        ("INVALID", "NOT_DONE"),
        ("OK", "COMMITTED"),
    ]


async def test_a_batch_that_its_deadline_cuts_tells_of_each_entry_what_is_certain() -> None:
    commands = Fates()
    current_deadline.set(asyncio.get_running_loop().time() + 1.0)
    names = ["done", *["slow"] * 32, "never", "never"]

    found = await writer_of(commands, Clock()).bundle(SESSION, batch(*names))

    assert told(found) == [
        ("OK", "COMMITTED"),
        *[("UNKNOWN_OUTCOME", "UNKNOWN")] * 32,
        *[("DEADLINE_EXCEEDED", "NOT_DONE")] * 2,
    ]
    assert len(commands.submitted) == 33


async def test_a_batch_that_a_shutdown_cuts_begins_nothing_more_and_answers_in_time() -> None:
    commands = Fates()
    names = ["done", *["slow"] * 32, "never"]
    writing = asyncio.create_task(
        writer_of(commands, Clock(), drain_seconds=0.5).bundle(SESSION, batch(*names))
    )
    await until(lambda: len(commands.submitted) == 33, "those that go together are on their way")

    STOPPING.set()

    async with asyncio.timeout(5):
        found = await writing
    assert told(found) == [
        ("OK", "COMMITTED"),
        *[("UNKNOWN_OUTCOME", "UNKNOWN")] * 32,
        ("DEADLINE_EXCEEDED", "NOT_DONE"),
    ]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
async def test_versions_of_a_bundle_are_looked_up_by_one_question_for_all(kind: str) -> None:
    asked: list[list[str]] = []

    class Ledger(FakeLedger):
        async def latest_versions(self, record_ids: Sequence[str]) -> list[RecordVersion | None]:
            asked.append(list(record_ids))
            return [RecordVersion(version=place) for place, _ in enumerate(record_ids, 1)]

    commands, names = Fates(), [uuid7() for _ in range(3)]
    entries = [
        entry("done", method="PUT", url=f"Observation/{name}", **({"ifMatch": 'W/"6"'} if at == 2 else {}))
        for at, name in enumerate(names)
    ]
    for one, name in zip(entries, names, strict=True):
        one["resource"]["id"] = name
    body = orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})

    class All(Commands):
        async def submit(self, request: SubmitRequest, session: Session, **_: Any) -> SubmitResponse:
            return SubmitResponse(receipts=[_ok() for _ in request.group.commands])

    writer = writer_of(commands if kind == "batch" else All(), Clock(), ledger=Ledger())
    found = await writer.bundle(SESSION, body)

    assert asked == [names[:2]]
    assert [one.version for one in found.entries if isinstance(one, Written)] == [2, 3, 7]


async def test_while_versions_cannot_be_looked_up_an_entry_that_names_its_own_is_written() -> None:
    class Away(FakeLedger):
        async def latest_versions(self, record_ids: Sequence[str]) -> list[RecordVersion | None]:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")

    name = uuid7()
    update = entry("done", method="PUT", url=f"Observation/{name}")
    update["resource"]["id"] = name
    document = {"resourceType": "Bundle", "type": "batch", "entry": [update, entry("done")]}

    found = await writer_of(Fates(), Clock(), ledger=Away()).bundle(SESSION, orjson.dumps(document))

    assert told(found) == [("UNAVAILABLE", "NOT_DONE"), ("OK", "COMMITTED")]


def _ok() -> RecordReceipt:
    receipt = RecordReceipt()
    receipt.receipt.code = code_pb2.CODE_OK
    return receipt
