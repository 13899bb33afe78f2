"""From a group to its receipts: what is refused before it is sealed is never stored."""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, Consent, RegisterIdentity, Role
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.group import Parsed
from services.gateway.fhir.large_contents import LARGE_BYTES
from services.gateway.pipeline import client_quota
from services.gateway.pipeline.client_quota import ClientLimits, ClientQuotas
from services.gateway.pipeline.pipeline import _turns
from services.gateway.pipeline.refusal_quota import RefusalQuotas
from services.gateway.pipeline.submission import Answer, Submission
from services.runtime.deadline import current_deadline
from services.runtime.errors import MeshError, code_name
from services.runtime.telemetry import Metrics
from tests.support.fakes.gateway_neighbours import FakeLedger, FakeStorage
from tests.support.fakes.gateway_people import CHANNEL, Person, put, put_together, resources
from tests.support.waiting import until
from tests.unit.cbmdhi.protocol.test_enrolment import issued
from tests.unit.services.gateway.conftest import World, build, start


def consent(patient: Person) -> Consent:
    return Consent(consent_id=uuid7(), patient=patient.address)


async def test_a_record_is_sealed_committed_and_its_receipt_says_where_it_lies(world: World) -> None:
    one = put(world.engine, world.patient)

    (entry,) = await world.send(one)

    assert entry.receipt.code == code_pb2.CODE_OK
    assert entry.receipt.tx_id
    assert entry.stored.cid in world.storage.stored
    assert [replica.msp for replica in entry.replicas] == ["MercyMSP", "LakesideMSP"]


async def test_a_content_is_sealed_for_its_command_and_its_seal_goes_to_the_channel_with_it(
    world: World,
) -> None:
    one = put(world.engine, world.patient)

    await world.send(one)

    assert world.storage.named == [(one.command_id, world.engine.address)]
    [[submission]], [[seal]] = world.ledger.submitted, world.ledger.seals
    assert submission.item.contents[0].root_sha256 == seal.root_sha256
    assert [receipt.msp for receipt in seal.receipts] == ["MercyMSP", "LakesideMSP"]


async def test_a_record_and_a_consent_are_one_submission_with_a_receipt_each(world: World) -> None:
    one = put(world.engine, world.patient, None, (world.patient, consent(world.patient)))

    written, consented = await world.send(one)

    assert [written.receipt.code, consented.receipt.code] == [code_pb2.CODE_OK] * 2
    assert written.HasField("stored")
    assert not consented.HasField("stored")
    assert len(world.ledger.submitted) == 1


async def test_of_a_group_refused_by_the_channel_each_command_says_why(world: World) -> None:
    one = put(world.engine, world.patient, None, (world.patient, consent(world.patient)))
    second = command.parse(one.group.commands[1])[0].command_id
    world.ledger.refuse[second] = (code_pb2.CODE_FORBIDDEN, "the policy does not permit it")

    receipts = [entry.receipt for entry in await world.send(one)]

    assert [code_name(receipt.code) for receipt in receipts] == ["GROUP_REFUSED", "FORBIDDEN"]
    assert world.storage.sealed_items == 1


async def test_a_group_without_contents_is_submitted_and_nothing_is_sealed(world: World) -> None:
    group = command.make_group([(world.patient, consent(world.patient))], channel=CHANNEL)

    (entry,) = await world.start(group, [], 100)

    assert entry.receipt.code == code_pb2.CODE_OK
    assert not world.storage.batches


async def test_a_certificate_that_names_somebody_is_not_carried_to_the_channel(world: World) -> None:
    newcomer = Person(Role.ROLE_CLINICIAN)
    subject = [(NameOID.COMMON_NAME, newcomer.address), (NameOID.EMAIL_ADDRESS, "jane.doe@mercy.example")]
    for names, codes in ((subject[:1], ["OK"]), (subject, ["INVALID"])):
        body = RegisterIdentity(
            address=newcomer.address,
            signing_public_key=signature.spki(newcomer.key.public_key()),
            enrolment_certificate=issued(names).public_bytes(Encoding.DER),
        )
        before = len(world.ledger.submitted)
        group = command.make_group([(newcomer, body)], channel=CHANNEL)
        try:
            receipts = await world.start(group, [], 100)
            found = [code_name(entry.receipt.code) for entry in receipts]
        except MeshError as error:
            found = [code_name(error.code)]
        assert found == codes
        assert len(world.ledger.submitted) - before == (1 if codes == ["OK"] else 0)


async def test_what_the_channel_refuses_harms_no_neighbour(world: World) -> None:
    ones = [put(world.engine, world.patient) for _ in range(4)]
    world.ledger.refuse[ones[2].command_id] = (code_pb2.CODE_FORBIDDEN, "no")

    answers = await asyncio.gather(*(world.send(one) for one in ones))

    assert [code_name(answer[0].receipt.code) for answer in answers] == ["OK", "OK", "FORBIDDEN", "OK"]
    assert not answers[2][0].HasField("stored")
    assert len({answer[0].stored.cid for answer in answers if answer[0].HasField("stored")}) == 3


async def test_what_storage_refuses_is_not_submitted(world: World) -> None:
    good, bad = put(world.engine, world.patient), put(world.engine, world.patient)
    world.storage.refuse[bad.body.record_id] = (code_pb2.CODE_NOT_FOUND, "no such patient")

    answers = await asyncio.gather(world.send(good), world.send(bad))

    assert code_name(answers[1][0].receipt.code) == "NOT_FOUND"
    assert len(world.storage.stored) == 1
    assert sum(len(batch) for batch in world.ledger.submitted) == 1


async def test_when_the_ledger_takes_nothing_the_error_is_told(world: World) -> None:
    world.ledger.failure = MeshError(
        code_pb2.CODE_RESOURCE_EXHAUSTED, "busy", "", 70, code_pb2.OUTCOME_NOT_DONE
    )
    ones = [put(world.engine, world.patient) for _ in range(2)]

    answers = await asyncio.gather(*(world.send(one) for one in ones), return_exceptions=True)

    assert [(a.code, a.retry_after_ms) for a in answers if isinstance(a, MeshError)] == [
        (code_pb2.CODE_RESOURCE_EXHAUSTED, 70)
    ] * 2


async def test_when_storage_is_away_nothing_is_submitted(world: World) -> None:
    world.storage.failure = MeshError(code_pb2.CODE_UNAVAILABLE, "too few replicas")

    with pytest.raises(MeshError) as caught:
        await world.send(put(world.engine, world.patient))

    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    assert caught.value.nothing_done
    assert not world.ledger.submitted


async def ends_in(seconds: float, work: Coroutine[Any, Any, list[RecordReceipt]]) -> MeshError:
    """What an RPC with this deadline hears of it."""
    current_deadline.set(asyncio.get_running_loop().time() + seconds)
    with pytest.raises(MeshError) as caught:
        await work
    return caught.value


async def test_who_has_no_time_left_hears_that_nothing_was_done_and_nothing_is_sealed(world: World) -> None:
    one = put(world.engine, world.patient)

    err = await ends_in(0.0, world.pipeline.submit(one.group, one.contents, 1_000))

    assert (err.code, err.outcome) == (code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.OUTCOME_NOT_DONE)
    assert not world.storage.batches
    # The same may be sent again, and is done once.
    current_deadline.set(None)
    assert await world.code_of(one) == "OK"


@pytest.mark.parametrize("what", ["committed", "refused", "storage fails", "out of time"])
async def test_what_a_call_takes_of_its_clients_memory_is_given_back_whatever_became_of_it(
    world: World, what: str
) -> None:
    one = put(world.engine, world.patient, version=0 if what == "refused" else 1)
    quotas = ClientQuotas(ClientLimits(10, 1_000, 1), 1_500, RefusalQuotas(10, 10))
    client = quotas.of(world.engine.address)
    if what == "storage fails":
        world.storage.failure = MeshError(code_pb2.CODE_UNAVAILABLE, "too few replicas")
    world.ledger.hold.clear()
    if what == "out of time":
        current_deadline.set(asyncio.get_running_loop().time() + 0.4)

    call = asyncio.create_task(world.pipeline.submit(one.group, one.contents, 900, client))
    await until(lambda: call.done() or world.ledger.submitted, "it is refused, or on its way")
    if not call.done():
        assert (quotas.memory.used, client.memory.used) == (900, 900)
        await until(lambda: what == "committed" or call.done(), "its caller waits no longer")
        world.ledger.hold.set()
    await asyncio.wait([call])

    await until(lambda: quotas.memory.used == 0, "it is given back")
    assert client.memory.used == 0


async def test_a_call_that_finds_no_memory_of_its_clients_is_told_and_another_client_finds_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_quota, "_MEMORY_SECONDS", 0.01)
    quotas = ClientQuotas(ClientLimits(10, 1_000, 1), 2_000, RefusalQuotas(10, 10))
    client, other = quotas.of(world.engine.address), quotas.of(world.patient.address)
    await client.memory.take(500)
    one = put(world.engine, world.patient)

    with pytest.raises(MeshError) as caught:
        await world.pipeline.submit(one.group, one.contents, 900, client)

    assert (code_name(caught.value.code), caught.value.nothing_done) == ("RESOURCE_EXHAUSTED", True)
    assert (client.memory.used, quotas.memory.used) == (500, 500)
    (entry,) = await world.pipeline.submit(one.group, one.contents, 900, other)
    assert code_name(entry.receipt.code) == "OK"


async def test_what_waits_for_its_turn_when_the_deadline_passes_is_not_sealed() -> None:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    engine, patient = Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(engine, patient)
    pipeline, _ = build(ledger, storage, batches_in_flight=1)
    first, late = put(engine, patient), put(engine, patient)
    async with pipeline:
        ledger.hold.clear()
        waiting = start(pipeline, first.group, first.contents, 1_000)
        await until(lambda: ledger.submitted, "a batch is under way")
        err = await ends_in(0.4, pipeline.submit(late.group, late.contents, 1_000))
        ledger.hold.set()
        await waiting

    assert (err.code, err.outcome) == (code_pb2.CODE_DEADLINE_EXCEEDED, code_pb2.OUTCOME_NOT_DONE)
    assert storage.sealed_items == 1
    assert len(ledger.submitted) == 1


async def test_what_is_on_its_way_when_the_deadline_passes_is_unknown_and_found_by_sending_it_again(
    world: World,
) -> None:
    one = put(world.engine, world.patient)
    world.ledger.hold.clear()

    err = await ends_in(0.4, world.pipeline.submit(one.group, one.contents, 1_000))

    assert (err.code, err.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)
    world.ledger.hold.set()
    current_deadline.set(None)
    (again,) = await world.send(one)
    assert (code_name(again.receipt.code), world.storage.sealed_items) == ("OK", 1)


async def test_a_clients_single_record_leaves_with_the_next_batch_whatever_another_has_waiting() -> None:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    busy, quiet, patient = Person(), Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(busy, quiet, patient)
    registry = Metrics("gateway")
    pipeline, _ = build(ledger, storage, registry, batches_in_flight=1, batch_submissions=10)
    many, single = [put(busy, patient) for _ in range(60)], put(quiet, patient)

    def queued() -> float | None:
        return registry.registry.get_sample_value("cbmdhi_gateway_queue_items", {"queue": "seal"})

    async with pipeline:
        ledger.hold.clear()
        waiting = [start(pipeline, one.group, one.contents, 1_000) for one in many]
        await until(lambda: ledger.submitted, "a batch is under way")
        await until(lambda: queued() == 50, "the others wait")
        waiting.append(start(pipeline, single.group, single.contents, 1_000))
        await until(lambda: queued() == 51, "it waits too")
        ledger.hold.set()
        await asyncio.gather(*waiting)

    second = [submission.item.group.commands[0].signer for submission in ledger.submitted[1]]
    assert second.count(quiet.address) == 1


async def test_who_sends_groups_has_no_larger_share_than_who_sends_single_records() -> None:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    grouping, single, patient = Person(), Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(grouping, single, patient)
    registry = Metrics("gateway")
    pipeline, _ = build(ledger, storage, registry, batches_in_flight=1, batch_submissions=9)

    def queued() -> float | None:
        return registry.registry.get_sample_value("cbmdhi_gateway_queue_items", {"queue": "seal"})

    async with pipeline:
        ledger.hold.clear()
        first = put(single, patient)
        waiting = [start(pipeline, first.group, first.contents, 1_000)]
        await until(lambda: ledger.submitted, "a batch is under way")
        groups = [put_together(grouping, patient, 16) for _ in range(6)]
        for one in (*groups, *(put(single, patient) for _ in range(40))):
            waiting.append(start(pipeline, one.group, one.contents, 1_000))
        await until(lambda: queued() == 46, "all of them wait")
        ledger.hold.set()
        await asyncio.gather(*waiting)

    together = [[sent.item.group.commands[0].signer for sent in batch] for batch in ledger.submitted[1:4]]
    assert [batch.count(grouping.address) for batch in together] == [1, 1, 0]


async def test_one_clients_consents_are_carried_some_at_a_time_and_another_client_has_its_turn(
    world: World,
) -> None:
    registry = Metrics("gateway")
    pipeline, _ = build(world.ledger, world.storage, registry)
    world.ledger.hold.clear()

    def queued() -> float | None:
        return registry.registry.get_sample_value("cbmdhi_gateway_queue_items", {"queue": "document"})

    many = [
        command.make_group([(world.patient, consent(world.patient))], channel=CHANNEL) for _ in range(500)
    ]
    async with pipeline:
        waiting = [start(pipeline, group, [], 1_000) for group in many]
        await until(lambda: len(world.ledger.submitted) == 200 and queued() == 300, "as many as are carried")
        other = command.make_group([(world.engine, consent(world.patient))], channel=CHANNEL)
        single = start(pipeline, other, [], 1_000)
        await until(lambda: queued() == 301, "another waits for its turn")
        assert len(world.ledger.submitted) == 200
        world.ledger.hold.set()

        await single
        carried = [submissions[0].item.group for submissions in world.ledger.submitted]
        assert carried.index(other) <= 201
        assert all(len(receipts) == 1 for receipts in await asyncio.gather(*waiting))


async def test_a_consent_whose_sender_gave_up_before_its_turn_is_not_carried(world: World) -> None:
    world.ledger.hold.clear()
    many = [
        command.make_group([(world.patient, consent(world.patient))], channel=CHANNEL) for _ in range(200)
    ]
    waiting = [world.start(group, [], 1_000) for group in many]
    await until(lambda: len(world.ledger.submitted) == 200, "nobody's turn comes any more")
    current_deadline.set(asyncio.get_running_loop().time() + 0.2)
    late = command.make_group([(world.engine, consent(world.patient))], channel=CHANNEL)

    with pytest.raises(MeshError) as caught:
        await world.pipeline.submit(late, [], 1_000)
    world.ledger.hold.set()
    await asyncio.gather(*waiting)

    assert caught.value.nothing_done
    assert len(world.ledger.submitted) == 200


async def test_many_records_share_batches() -> None:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    engine, patient = Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(engine, patient)
    pipeline, _ = build(ledger, storage, batch_submissions=25)
    async with pipeline:
        ones = [put(engine, patient) for _ in range(100)]
        answers = await asyncio.gather(*(start(pipeline, one.group, one.contents, 1_000) for one in ones))

    assert all(answer[0].receipt.code == code_pb2.CODE_OK for answer in answers)
    assert len(storage.batches) <= 6
    assert max(len(batch) for batch in ledger.submitted) == 25


async def test_groups_of_many_records_ask_storage_for_no_more_at_once_than_it_seals() -> None:
    ledger = FakeLedger()
    storage = FakeStorage(ledger)
    engine, patient = Person(), Person(role=Role.ROLE_PATIENT)
    ledger.register(engine, patient)
    pipeline, _ = build(ledger, storage, batch_submissions=400)
    async with pipeline:
        ones = [put_together(engine, patient, count) for count in (128, *[16] * 80)]
        answers = await asyncio.gather(*(start(pipeline, one.group, one.contents, 1_000) for one in ones))

    assert {entry.receipt.code for answer in answers for entry in answer} == {code_pb2.CODE_OK}
    assert storage.sealed_items == 128 + 80 * 16
    assert max(len(batch) for batch in storage.batches) <= 1_000


async def test_a_group_of_records_alone_may_have_many_and_one_with_something_else_few(world: World) -> None:
    many = put_together(world.engine, world.patient, 128)
    assert {entry.receipt.code for entry in await world.send(many)} == {code_pb2.CODE_OK}
    assert len(world.ledger.submitted[-1]) == 1

    signed = many.group.commands
    mixed = command.make_group([(world.patient, consent(world.patient)) for _ in range(16)], channel=CHANNEL)
    for group in (
        CommandGroup(commands=[*signed, signed[0]]),
        CommandGroup(commands=[*signed[:16], mixed.commands[0]]),
        CommandGroup(commands=[*mixed.commands, mixed.commands[0]]),
    ):
        with pytest.raises(MeshError) as caught:
            await world.start(group, [], 10)
        assert (caught.value.path, "128" in caught.value.reason) == ("group.commands", True)
    assert len(world.ledger.submitted) == 1
    with pytest.raises(ValueError, match="16 commands, or 128 records"):
        command.make_group([(world.patient, consent(world.patient)) for _ in range(17)], channel=CHANNEL)


def bundle(patient: Person, entries: int) -> dict[str, Any]:
    subject = {"reference": f"Patient/{patient.address}"}
    several = [{**one, "subject": subject} for one in resources("Observation")]
    documents = [{"resource": one} for one in (several * entries)[:entries]]
    return {"resourceType": "Bundle", "type": "collection", "entry": documents}


async def test_a_large_content_is_parsed_and_validated_in_another_process(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    checker = world.pipeline._checks._checker
    read = checker.read
    monkeypatch.setattr(checker, "read", lambda content: (seen.append(len(content)), read(content))[1])
    small, large = (
        put(world.engine, world.patient),
        put(world.engine, world.patient, bundle(world.patient, 100)),
    )
    bad = put(world.engine, world.patient, bundle(world.patient, 100) | {"type": "no such"})

    answers = [
        await world.start(one.group, one.contents, len(one.contents[0].content))
        for one in (small, large, bad)
    ]

    assert [code_name(answer[0].receipt.code) for answer in answers] == ["OK", "OK", "INVALID"]
    assert answers[2][0].receipt.path == "Bundle.type"
    assert seen == [len(small.contents[0].content)]


def test_a_turn_of_the_loop_is_bounded_by_what_is_in_it() -> None:
    def of(size: int) -> Submission:
        return Submission(CommandGroup(), (), size, lambda _: None)

    def of_many(commands: int) -> Submission:
        one = of(1)
        one.commands = (cast(Parsed, None),) * commands
        return one

    sizes = [1_000] * 20 + [40 * 1024] * 4 + [1 << 20] * 3

    turns = [[one.size for one in turn] for turn in _turns([of(size) for size in sizes])]

    assert [len(turn) for turn in turns] == [16, 6, 2, 3]
    assert [len(turn) for turn in _turns([of_many(128), of_many(10), of_many(10), of(1)])] == [1, 2, 1]
    on_the_loop = [sum(size for size in turn if size <= LARGE_BYTES) for turn in turns]
    assert max(on_the_loop) <= 2 * LARGE_BYTES


async def test_what_the_gateways_own_device_signed_is_not_verified_again_and_all_else_is(
    world: World,
) -> None:
    one = put(world.engine, world.patient)
    signed = one.group.commands[0]
    signed.signature = signature.sign(Person().key, signature.COMMAND, signed.command)

    (refused,) = await world.pipeline.submit(one.group, one.contents, one.group.ByteSize())
    assert code_name(refused.receipt.code) == "BAD_SIGNATURE"
    assert world.ledger.submitted == []

    # The chaincode, which verifies every signature, would refuse it: nothing is taken on the gateway's word.
    await world.pipeline.submit(one.group, one.contents, one.group.ByteSize(), signed_here=True)
    assert len(world.ledger.submitted) == 1


async def test_what_is_signed_here_for_whom_nobody_knows_is_not_carried(world: World) -> None:
    one = put(Person(), world.patient)
    (refused,) = await world.pipeline.submit(one.group, one.contents, one.group.ByteSize(), signed_here=True)
    assert code_name(refused.receipt.code) == "INACTIVE_SIGNER"
    assert world.ledger.submitted == []


async def test_when_nothing_of_a_batch_was_submitted_what_storage_refused_keeps_its_own_answer(
    world: World,
) -> None:
    refused, others = put(world.engine, world.patient), [put(world.engine, world.patient) for _ in range(2)]
    world.storage.refuse[refused.body.record_id] = (code_pb2.CODE_NOT_FOUND, "the patient has no key")
    world.ledger.failure = MeshError(
        code_pb2.CODE_UNAVAILABLE, "no majority", "", 50, code_pb2.OUTCOME_NOT_DONE
    )
    answers: list[list[Answer]] = [[], [], []]
    world.pipeline.start(
        *(
            Submission(one.group, one.contents, 1_000, answer.append)
            for one, answer in zip([others[0], refused, others[1]], answers, strict=True)
        )
    )
    await until(lambda: all(answers), "all are answered")

    [[first], [own], [last]] = answers
    assert isinstance(own, list)
    assert (code_name(own[0].receipt.code), own[0].receipt.path) == ("NOT_FOUND", "body.put_record.patient")
    for one in (first, last):
        assert isinstance(one, MeshError)
        assert (code_name(one.code), one.retry_after_ms, one.nothing_done) == ("UNAVAILABLE", 50, True)
    assert first is not last
    assert len(world.storage.batches) == 1
