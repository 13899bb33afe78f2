"""What people get wrong: a code, a sentence that says what to do, nothing stored, no neighbour harmed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cbmdhi.client import Client
from cbmdhi.client.commands import submit
from cbmdhi.client.consents import consent, provision
from cbmdhi.client.new_record import put_record
from cbmdhi.client.records import NewRecord, Prepared, Written
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, NotCommitted, name_of
from cbmdhi.gateway.v1 import gateway_pb2_grpc
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, IngestRequest
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.ids import uuid7
from tests.e2e.conftest import People, observation

pytestmark = pytest.mark.asyncio(loop_scope="session")

Spoil = Callable[[People, Prepared], Prepared]


def code_of(result: Written) -> str:
    """The code of a result, whether the gateway or the channel refused it."""
    return result.error.code_name if result.error else "OK"


def reason_of(result: Written) -> str:
    """The sentence of a result."""
    return result.error.reason if result.error else ""


def signed_anew(
    people: People, good: Prepared, signer: command.Signer | None = None, **changes: object
) -> Prepared:
    """The same record under another header."""
    body, content = put_record(good.record)
    arguments = {"channel": people.engine.wallet.consortium.signed_channel, **changes}
    signed = (signer or people.engine.wallet).sign_command(command.make(body, **arguments))  # type: ignore[arg-type]
    item = IngestItem(
        submission_id=good.record.record_id,
        group=pb.CommandGroup(commands=[signed]),
        contents=[content],
    )
    return Prepared(good.record, item)


def wrongly_signed(people: People, good: Prepared) -> Prepared:
    other = command.KeySigner(signature.new_private_key())
    raw = good.item.group.commands[0].command
    good.item.group.commands[0].signature = other.sign_command(raw).signature
    return good


def by_an_unknown_signer(people: People, good: Prepared) -> Prepared:
    return signed_anew(people, good, command.KeySigner(signature.new_private_key()))


def for_another_channel(people: People, good: Prepared) -> Prepared:
    pinned = people.engine.wallet.consortium.signed_channel
    return signed_anew(people, good, channel=replace(pinned, name="elsewhere"))


def for_a_channel_that_began_otherwise(people: People, good: Prepared) -> Prepared:
    pinned = people.engine.wallet.consortium.signed_channel
    return signed_anew(people, good, channel=replace(pinned, genesis_sha256=bytes(32)))


def expired(people: People, good: Prepared) -> Prepared:
    return signed_anew(people, good, now_ms=int(time.time() * 1000) - 3_600_000)


def living_too_long(people: People, good: Prepared) -> Prepared:
    return signed_anew(people, good, lifetime_seconds=3600)


def not_a_command(people: People, good: Prepared) -> Prepared:
    good.item.group.commands[0].command = b"\xff\xff\xff"
    return good


def without_content(people: People, good: Prepared) -> Prepared:
    del good.item.contents[:]
    return good


def with_other_content(people: People, good: Prepared) -> Prepared:
    good.item.contents[0].content = good.item.contents[0].content.replace(b"final", b"amended")
    return good


def by_an_unregistered_device(people: People, good: Prepared) -> Prepared:
    device = signature.new_private_key()
    delegator = people.mercy_clinician.wallet
    now = int(time.time() * 1000)
    delegation = pb.Delegation(
        delegation_id=uuid7(),
        channel=delegator.consortium.channel,
        genesis_sha256=delegator.consortium.genesis_sha256,
        delegator=delegator.address,
        delegate=command.KeySigner(device).address,
        actions=["write"],
        purposes=["TREAT"],
        issued_at_ms=now,
        expires_at_ms=now + 600_000,
    ).SerializeToString()
    signed = pb.SignedDelegation(
        delegation=delegation, signature=delegator.sign(signature.DELEGATION, delegation)
    )
    return signed_anew(people, good, command.KeySigner(device, signed), delegation=signed)


SPOILT: list[tuple[Spoil, str]] = [
    (wrongly_signed, "BAD_SIGNATURE"),
    (by_an_unknown_signer, "UNKNOWN_SIGNER"),
    (by_an_unregistered_device, "UNKNOWN_SIGNER"),
    (for_another_channel, "WRONG_CHANNEL"),
    (for_a_channel_that_began_otherwise, "WRONG_CHANNEL"),
    (expired, "EXPIRED"),
    (living_too_long, "EXPIRED"),
    (not_a_command, "INVALID"),
    (without_content, "INVALID"),
    (with_other_content, "INVALID"),
]


@pytest.mark.parametrize(("spoil", "code"), SPOILT, ids=[spoil.__name__ for spoil, _ in SPOILT])
async def test_a_bad_command_is_told_why_and_its_neighbours_are_committed(
    people: People, patient: Client, spoil: Spoil, code: str
) -> None:
    prepared = [people.engine.records.prepare(observation(patient)) for _ in range(3)]
    prepared[1] = spoil(people, prepared[1])
    results = {entry.record.record_id: entry async for entry in people.engine.records.send(prepared)}
    bad = results[prepared[1].record.record_id]
    assert code_of(bad) == code, reason_of(bad)
    assert len(reason_of(bad)) > 15
    assert all(results[entry.record.record_id].ok for entry in (prepared[0], prepared[2]))
    await nothing_is_stored(patient, prepared[1].record)


async def nothing_is_stored(patient: Client, record: NewRecord) -> None:
    with pytest.raises(NotCommitted) as caught:
        await patient.records.read(record.patient, record.record_id, record.version, "PATRQT")
    assert caught.value.code_name == "NOT_FOUND"


async def test_a_record_of_an_unknown_patient_is_refused(people: People, patient: Client) -> None:
    async with people.newcomer() as nobody:
        [result] = await people.engine.records.put_each([observation(nobody)])
        assert code_of(result) == "NOT_FOUND", reason_of(result)


async def test_a_record_for_somebody_who_is_no_patient_is_refused(people: People, patient: Client) -> None:
    [result] = await people.engine.records.put_each([observation(people.mercy_clinician)])
    assert code_of(result) in ("NOT_FOUND", "INVALID", "FORBIDDEN"), reason_of(result)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"status": None}, "Observation.status"),
        ({"status": 7}, "Observation.status"),
        ({"noSuchElement": 1}, "Observation"),
        ({"resourceType": "NoSuchType"}, "resourceType"),
    ],
)
async def test_what_is_not_valid_fhir_is_invalid_with_its_path_and_without_its_value(
    people: People, patient: Client, changes: dict[str, object], path: str
) -> None:
    good = observation(patient)
    resource = {**json.loads(good.content), **changes}
    bad = NewRecord.of(good.patient, {key: value for key, value in resource.items() if value is not None})
    results = await people.engine.records.put_each([bad, good])
    assert code_of(results[0]) == "INVALID"
    assert results[0].error is not None
    assert path in results[0].error.path
    assert results[1].ok


async def test_what_is_not_json_is_invalid(people: People, patient: Client) -> None:
    [result] = await people.engine.records.put_each([NewRecord(patient.wallet.address, b"<Observation/>")])
    assert code_of(result) == "INVALID"


async def test_a_message_over_16_mib_is_refused_naming_the_limit(people: People, patient: Client) -> None:
    resource = {**json.loads(observation(patient).content), "note": [{"text": "x" * (17 * 1024 * 1024)}]}
    large = people.engine.records.prepare(NewRecord.of(patient.wallet.address, resource))
    good = people.engine.records.prepare(observation(patient))
    # Past the SDK's own check, as an engine in another language would send it.
    stub = gateway_pb2_grpc.IngestServiceStub(people.engine.connection.authenticated)
    call = stub.Ingest(
        iter([IngestRequest(items=[large.item]), IngestRequest(items=[good.item])]),
        metadata=await people.engine.connection.metadata(),
    )
    results = {result.submission_id: result async for response in call for result in response.results}
    error = results[large.item.submission_id].error
    assert code_pb2.Code.Name(error.code) == "CODE_TOO_LARGE"
    assert "16 MiB" in error.reason
    assert name_of(results[good.item.submission_id].receipts[0].receipt.code) == "OK"


async def test_the_sdk_refuses_an_oversize_record_by_itself_and_sends_the_others(
    people: People, patient: Client
) -> None:
    resource = {**json.loads(observation(patient).content), "note": [{"text": "x" * (40 * 1024 * 1024)}]}
    results = await people.engine.records.put_each(
        [NewRecord.of(patient.wallet.address, resource), observation(patient)]
    )
    assert code_of(results[0]) == "TOO_LARGE"
    assert "16 MiB" in reason_of(results[0])
    assert results[1].ok


async def test_a_large_record_within_the_limit_is_written_and_read(people: People, patient: Client) -> None:
    resource = {**json.loads(observation(patient).content), "note": [{"text": "x" * (3 * 1024 * 1024)}]}
    record = NewRecord.of(patient.wallet.address, resource)
    [result] = await people.engine.records.put_each([record])
    assert result.ok, reason_of(result)
    reading = await patient.records.read(record.patient, record.record_id, 1, "PATRQT")
    assert reading.content == record.content


async def test_the_same_id_for_other_bytes_is_a_conflict(people: People, patient: Client) -> None:
    command_id = uuid7()
    prepared = [people.engine.records.prepare(observation(patient)) for _ in range(2)]
    first, second = (signed_anew(people, entry, command_id=command_id) for entry in prepared)
    [result] = [entry async for entry in people.engine.records.send([first])]
    assert result.ok
    [result] = [entry async for entry in people.engine.records.send([second])]
    assert code_of(result) == "CONFLICT"


async def test_a_version_that_does_not_follow_is_a_conflict(people: People, patient: Client) -> None:
    good = observation(patient)
    skipped = NewRecord(good.patient, good.content, good.record_id, version=3)
    [result] = await people.engine.records.put_each([skipped])
    assert code_of(result) == "CONFLICT", reason_of(result)


async def test_a_gateway_does_not_serve_who_is_not_registered(people: People) -> None:
    async with people.newcomer() as newcomer:
        await newcomer.registration.enrol()
        with pytest.raises(MeshError) as caught:
            await newcomer.inbox.list()
        assert caught.value.code_name in ("UNAUTHENTICATED", "UNKNOWN_SIGNER", "INACTIVE_SIGNER", "NOT_FOUND")


async def test_staff_without_an_invitation_are_not_enrolled(people: People) -> None:
    async with people.newcomer(pb.ROLE_CLINICIAN) as imposter:
        with pytest.raises(MeshError) as caught:
            await imposter.registration.enrol("guessed-secret")
        assert caught.value.code_name == "UNAUTHENTICATED"


async def test_a_patients_certificate_does_not_make_a_clinician(people: People) -> None:
    async with people.newcomer() as patient:
        await patient.registration.enrol()
        patient.wallet.role = pb.ROLE_CLINICIAN
        with pytest.raises(NotCommitted) as caught:
            await patient.registration.register()
        assert caught.value.code_name in ("FORBIDDEN", "INVALID")


async def test_only_the_patient_gives_a_consent(people: People, patient: Client) -> None:
    with pytest.raises(NotCommitted) as caught:
        await submit(
            people.lakeside_clinician.connection,
            consent(patient.wallet.address, provision(msp="LakesideMSP")),
        )
    assert caught.value.code_name == "FORBIDDEN"


async def test_one_members_administrator_cannot_vote_for_both(people: People) -> None:
    async with people.newcomer() as newcomer:
        await newcomer.registration.enrol()
        await newcomer.registration.register({"document": "passport"})
        identity = await newcomer.registration.identity()
        await people.mercy_administrator.registration.review(identity, approve=True)
        with pytest.raises(NotCommitted) as caught:
            await people.mercy_administrator.registration.review(identity, approve=True)
        assert caught.value.code_name == "CONFLICT"
