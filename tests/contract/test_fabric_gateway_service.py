"""The ledger service as a process, on the real network: its callers' commands reach the channel."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2, ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import command
from cbmdhi.protocol.state_keys import sealed_record_key_name, sealed_writer_key_name
from ops.devnet import Network
from services.runtime.client import call, connect
from services.runtime.config import Nats, Tls
from services.runtime.errors import MeshError
from services.runtime.events import DurableConsumer, Event
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM
from services.runtime.telemetry import Metrics
from tests.contract.patients import Care, Storages
from tests.contract.people import Administrators, IdentityCa, Person, command_id
from tests.support.waiting import until

SECONDS = 25.0


class Ledger:
    """A member's ledger service as one of its services sees it."""

    def __init__(self, network: Network, organisation: str, caller: str = "gateway", of: str = "") -> None:
        everyone = network.endpoints()["organisations"]
        config = tomllib.loads(Path(everyone[of or organisation]["services"][caller]["config"]).read_text())
        service = everyone[organisation]["services"]["ledger"]
        self.metrics_url: str = service["metrics"]
        self.channel = connect(
            service["grpc"], Tls.model_validate(config["tls"]), service="ledger", organisation=organisation
        )
        self.stub: Any = ledger_pb2_grpc.LedgerServiceStub(self.channel)

    async def submit(
        self, *submissions: ledger_pb2.SealedGroup, seals: Sequence[state_pb2.SealedBatch] = ()
    ) -> list[ledger_pb2.Receipt]:
        request = ledger_pb2.SubmitRequest(submissions=submissions, seals=seals)
        response = await call(self.stub.Submit, request, deadline_seconds=SECONDS)
        return [receipt for group in response.groups for receipt in group.receipts]

    async def submit_until_done(self, submission: ledger_pb2.SealedGroup) -> ledger_pb2.Receipt:
        """As an engine does: what is not certain, or not done for now, is sent again."""
        for_now = {
            code_pb2.CODE_UNAVAILABLE,
            code_pb2.CODE_UNKNOWN_OUTCOME,
            code_pb2.CODE_ENDORSEMENT_FAILED,
            code_pb2.CODE_DEADLINE_EXCEEDED,
            code_pb2.CODE_RESOURCE_EXHAUSTED,
        }
        async with asyncio.timeout(60):
            while True:
                try:
                    (receipt,) = await self.submit(submission)
                    code = receipt.code
                except MeshError as err:
                    code = err.code
                else:
                    if code not in for_now:
                        return receipt
                assert code in for_now
                await asyncio.sleep(0.2)

    async def ask(self, method: str, request: Any) -> Any:
        return await call(getattr(self.stub, method), request, deadline_seconds=10)


@pytest.fixture(scope="module")
def services(network: Network) -> Iterator[Network]:
    names = ("mercy-ledger", "lakeside-ledger")
    for name in names:
        network.start(name)
    yield network
    for name in names:
        network.stop(name)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def mercy(services: Network, stack: AsyncExitStack) -> Ledger:
    ledger = Ledger(services, "mercy")
    await stack.enter_async_context(ledger.channel)
    return ledger


@pytest.fixture
async def mercy_notify(services: Network, stack: AsyncExitStack) -> Ledger:
    ledger = Ledger(services, "mercy", "notify")
    await stack.enter_async_context(ledger.channel)
    return ledger


@pytest.fixture
async def lakeside(services: Network, stack: AsyncExitStack) -> Ledger:
    ledger = Ledger(services, "lakeside")
    await stack.enter_async_context(ledger.channel)
    return ledger


@pytest.fixture
def ca(services: Network) -> IdentityCa:
    return IdentityCa.of(services, "mercy")


@pytest.fixture
async def events(services: Network, stack: AsyncExitStack) -> list[events_pb2.TransactionCommitted]:
    """What mercy's stream holds, as it comes."""
    settings = services.endpoints()["organisations"]["mercy"]["nats"]
    settings.pop("monitor", None)
    link = await stack.enter_async_context(NatsConnection(Nats.model_validate(settings), "admin"))
    seen: list[events_pb2.TransactionCommitted] = []

    async def handle(event: Event) -> None:
        seen.append(events_pb2.TransactionCommitted.FromString(event.data))

    consumer = DurableConsumer(link, LEDGER_STREAM, f"test-{id(seen)}", handle, metrics=Metrics("test"))
    task = asyncio.create_task(consumer.run())

    async def end() -> None:
        task.cancel()
        await asyncio.wait([task])

    stack.push_async_callback(end)
    return seen


def registers(ca: IdentityCa) -> tuple[Person, ledger_pb2.SealedGroup]:
    person = Person(ca.channel)
    return person, person.means(person.registration(ca))


async def test_a_command_is_committed_and_everybody_can_see_and_check_it(
    services: Network,
    mercy: Ledger,
    mercy_notify: Ledger,
    ca: IdentityCa,
    events: list[events_pb2.TransactionCommitted],
) -> None:
    person, submission = registers(ca)

    receipt = await mercy.submit_until_done(submission)

    assert receipt.code == code_pb2.CODE_OK
    assert not receipt.already_committed
    asked = ledger_pb2.GetIdentityRequest(address=person.address)
    assert (await mercy.ask("GetIdentity", asked)).identity.home_msp == "MercyMSP"
    listed = ledger_pb2.ListIdentitiesRequest(role=command_pb2.ROLE_DEVICE, page_size=500)
    assert person.address in {one.address for one in (await mercy.ask("ListIdentities", listed)).identities}
    trail = (await mercy.ask("ListAudit", ledger_pb2.ListAuditRequest(patient=person.address))).entries
    assert [(one.entry.action, one.block) for one in trail] == [("register", receipt.block)]
    found = ledger_pb2.GetReceiptRequest(command_id=receipt.command_id, signer=person.address)
    looked_up = (await mercy.ask("GetReceipt", found)).receipt
    assert looked_up.command_sha256 == command.sha256(submission.item.group.commands[0])
    looked_up.ClearField("command_sha256")
    assert looked_up == receipt

    await until(lambda: receipt.tx_id in {event.tx_id for event in events})
    (event,) = [event for event in events if event.tx_id == receipt.tx_id]
    assert (event.block, event.entries, event.identities) == (receipt.block, [], [])
    facts = await mercy_notify.ask("ListCommitted", ledger_pb2.ListCommittedRequest(from_block=receipt.block))
    (fact,) = [one for one in facts.transactions if one.tx_id == receipt.tx_id]
    assert [entry.command_id for entry in fact.entries] == [receipt.command_id]
    assert [identity.address for identity in fact.identities] == [person.address]


async def test_a_command_sent_again_elsewhere_gets_the_first_receipt(
    mercy: Ledger, lakeside: Ledger, ca: IdentityCa
) -> None:
    _, submission = registers(ca)
    first = await mercy.submit_until_done(submission)

    again = await lakeside.submit_until_done(submission)

    assert again.already_committed
    assert (again.code, again.tx_id, again.block) == (first.code, first.tx_id, first.block)


async def test_a_batch_holds_good_and_bad_and_each_hears_about_itself(mercy: Ledger, ca: IdentityCa) -> None:
    sent = [registers(ca)[1] for _ in range(40)]
    sent[7].item.group.commands[0].signature = sent[8].item.group.commands[0].signature
    sent[21].item.group.commands[0].command = b"\xff"

    receipts = await mercy.submit(*sent)

    odd = {7: code_pb2.CODE_BAD_SIGNATURE, 21: code_pb2.CODE_INVALID}
    assert [one.code for one in receipts] == [odd.get(n, code_pb2.CODE_OK) for n in range(40)]
    assert [bool(one.tx_id) for one in receipts] == [n not in odd for n in range(40)]
    assert all(one.reason for one in (receipts[7], receipts[21]))


async def test_two_members_that_write_the_same_documents_at_a_time_both_get_answers(
    mercy: Ledger, lakeside: Ledger, ca: IdentityCa
) -> None:
    people = [Person(ca.channel) for _ in range(12)]
    rivals = [
        [person.means(person.registration(ca)) for person in people],
        [person.means(person.registration(ca)) for person in people],
    ]

    at_mercy, at_lakeside = await asyncio.gather(
        asyncio.gather(*(mercy.submit_until_done(one) for one in rivals[0])),
        asyncio.gather(*(lakeside.submit_until_done(one) for one in rivals[1])),
    )

    for one, other in zip(at_mercy, at_lakeside, strict=True):
        assert sorted([one.code, other.code]) == [code_pb2.CODE_OK, code_pb2.CODE_CONFLICT]


async def test_only_the_members_own_services_are_answered(
    services: Network, mercy: Ledger, ca: IdentityCa
) -> None:
    _, submission = registers(ca)
    strangers = [Ledger(services, "mercy", "storage"), Ledger(services, "mercy", "gateway", of="lakeside")]
    for stranger in strangers:
        async with stranger.channel:
            with pytest.raises(MeshError) as refused:
                await stranger.submit(submission)
            assert refused.value.code == code_pb2.CODE_FORBIDDEN
    with pytest.raises(MeshError) as refused:
        await mercy.ask(
            "GetSealedKeys", ledger_pb2.GetSealedKeysRequest(keys=[sealed_writer_key_name("MercyMSP", "1")])
        )
    assert refused.value.code == code_pb2.CODE_FORBIDDEN


async def test_members_policy_and_height_are_told(mercy: Ledger) -> None:
    members = await mercy.ask("ListMembers", ledger_pb2.ListMembersRequest())
    assert [one.msp for one in members.members] == ["LakesideMSP", "MercyMSP"]
    assert members.policy.version >= 1
    assert members.channel == "cbmdhi"
    height = await mercy.ask("GetHeight", ledger_pb2.GetHeightRequest())
    assert height.height > 3
    member = await mercy.ask("GetMember", ledger_pb2.GetMemberRequest(msp="LakesideMSP"))
    assert member.member.name == "lakeside"


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("GetIdentity", ledger_pb2.GetIdentityRequest(address="cb1" + "a" * 32)),
        ("GetMember", ledger_pb2.GetMemberRequest(msp="NobodyMSP")),
        (
            "GetReceipt",
            ledger_pb2.GetReceiptRequest(
                command_id="01930000-0000-7000-8000-000000000000", signer="cb1" + "a" * 32
            ),
        ),
    ],
)
async def test_what_is_not_there_is_not_found(mercy: Ledger, method: str, request_: Any) -> None:
    with pytest.raises(MeshError) as failure:
        await mercy.ask(method, request_)

    assert failure.value.code == code_pb2.CODE_NOT_FOUND


async def test_sealed_keys_that_nobody_stored_come_back_empty(services: Network) -> None:
    storage = Ledger(services, "mercy", "storage")
    async with storage.channel:
        keys = [sealed_writer_key_name("MercyMSP", "01930000-0000-7000-8000-000000000000")]
        answer = await storage.ask("GetSealedKeys", ledger_pb2.GetSealedKeysRequest(keys=keys))

    assert list(answer.sealed) == [b""]


async def test_a_peer_that_dies_under_load_costs_no_command_and_doubles_none(
    services: Network, mercy: Ledger, ca: IdentityCa
) -> None:
    people = [registers(ca) for _ in range(30)]

    async def send(number: int) -> ledger_pb2.Receipt:
        await asyncio.sleep(number * 0.03)
        return await mercy.submit_until_done(people[number][1])

    calls = [asyncio.create_task(send(number)) for number in range(30)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.to_thread(services.kill, "mercy-peer")
    receipts = await asyncio.gather(*calls)

    assert {one.code for one in receipts} == {code_pb2.CODE_OK}
    for (person, submission), receipt in zip(people, receipts, strict=True):
        found = ledger_pb2.GetReceiptRequest(command_id=command_id(submission), signer=person.address)
        assert (await mercy.ask("GetReceipt", found)).receipt.tx_id == receipt.tx_id


async def test_a_ledger_service_that_dies_goes_on_where_it_was(
    services: Network, mercy: Ledger, ca: IdentityCa, events: list[events_pb2.TransactionCommitted]
) -> None:
    _, before = registers(ca)
    first = await mercy.submit_until_done(before)
    await asyncio.to_thread(services.kill, "mercy-ledger")
    await asyncio.to_thread(services.wait_ready, "mercy-ledger")

    person, after = registers(ca)
    second = await mercy.submit_until_done(after)

    await until(lambda: {first.tx_id, second.tx_id} <= {event.tx_id for event in events})
    trail = (await mercy.ask("ListAudit", ledger_pb2.ListAuditRequest(patient=person.address))).entries
    assert [one.entry.tx_id for one in trail] == [second.tx_id]


async def test_without_nats_the_service_is_ready_and_events_come_later(
    services: Network, mercy: Ledger, ca: IdentityCa, events: list[events_pb2.TransactionCommitted]
) -> None:
    await asyncio.to_thread(services.stop, "mercy-nats")
    try:
        person, submission = registers(ca)
        receipt = await mercy.submit_until_done(submission)
        trail = (await mercy.ask("ListAudit", ledger_pb2.ListAuditRequest(patient=person.address))).entries
        assert [one.entry.tx_id for one in trail] == [receipt.tx_id]
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http,
            http.get(f"{mercy.metrics_url}/readyz") as answer,
        ):
            assert answer.status == 200
    finally:
        await asyncio.to_thread(services.start, "mercy-nats")

    await until(lambda: receipt.tx_id in {event.tx_id for event in events}, seconds=60)


async def test_a_writer_key_reaches_its_holders_with_the_first_record_and_is_found_by_all(
    services: Network, mercy: Ledger, lakeside: Ledger, ca: IdentityCa, administrators: Administrators
) -> None:
    reviewers = await administrators.known(mercy.submit_until_done)
    care = await Care.begin(mercy.submit_until_done, ca, reviewers)
    submissions = [care.record() for _ in range(25)]

    receipts = await mercy.submit(*submissions, seals=[Storages(services, ca.channel).seal(submissions)])

    assert {one.code for one in receipts} == {code_pb2.CODE_OK}
    for organisation in ("mercy", "lakeside"):
        storage = Ledger(services, organisation, "storage")
        async with storage.channel:
            assert await _writer_key(storage, care.patient) == care.writer_key
            name = sealed_writer_key_name("MercyMSP", care.writer_key.key_id)
            keys = ledger_pb2.GetSealedKeysRequest(keys=[name, sealed_record_key_name(care.patient.address)])
            sealed = (await storage.ask("GetSealedKeys", keys)).sealed
            assert sealed[0] == care.sealed_key
            assert sealed[1]
    listed = ledger_pb2.ListRecordsRequest(patient=care.patient.address, page_size=20)
    first = await mercy.ask("ListRecords", listed)
    listed.page_token = first.next_page_token
    rest = await mercy.ask("ListRecords", listed)
    ids = {one.command_id for one in [*first.records, *rest.records]}
    assert ids == {one.command_id for one in receipts}


async def _writer_key(storage: Ledger, patient: Person) -> state_pb2.WriterKey:
    """Once this member's projection has it."""
    wanted = ledger_pb2.GetWriterKeyRequest(writer_msp="MercyMSP", patient=patient.address)
    async with asyncio.timeout(20):
        while True:
            try:
                return (await storage.ask("GetWriterKey", wanted)).writer_key
            except MeshError as err:
                if err.code != code_pb2.CODE_NOT_FOUND:
                    raise
                await asyncio.sleep(0.1)
