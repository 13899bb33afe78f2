"""What is wrong with a group is said with a code and a sentence, and nothing of it is stored."""

import asyncio
import time
from collections.abc import Callable

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import (
    EFFECT_PERMIT,
    Access,
    BreakGlass,
    Command,
    CommandBody,
    CommandGroup,
    Consent,
    EmergencyAccess,
    PolicyDocument,
    Provision,
    PutRecord,
    RevokeConsent,
    Role,
    SetPolicy,
    SignedCommand,
)
from cbmdhi.command.v1.state_pb2 import IdentityStatus
from cbmdhi.gateway.v1.gateway_pb2 import Content
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import MeshError, code_name
from tests.support.channel import ELSEWHERE, REUSED_NAME
from tests.support.fakes.gateway_people import CHANNEL, Person, Put, an_observation, put
from tests.support.waiting import until
from tests.unit.services.gateway.conftest import World


def consent(patient: Person) -> Consent:
    return Consent(consent_id=uuid7(), patient=patient.address)


def tampered_signature(world: World) -> Put:
    one = put(world.engine, world.patient)
    signed = one.group.commands[0]
    signed.signature = signature.sign(Person().key, signature.COMMAND, signed.command)
    return one


def high_s(world: World) -> Put:
    one = put(world.engine, world.patient)
    signed = one.group.commands[0]
    r, s = signature.decode_dss_signature(signed.signature)
    signed.signature = signature.encode_dss_signature(
        r, 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 - s
    )
    return one


def no_content(world: World) -> Put:
    one = put(world.engine, world.patient)
    one.contents.clear()
    return one


def two_contents(world: World) -> Put:
    one = put(world.engine, world.patient)
    one.contents.append(one.contents[0])
    return one


def other_content(world: World) -> Put:
    one = put(world.engine, world.patient)
    one.contents[0].content = one.contents[0].content.replace(b'"final"', b'"amended"')
    one.contents[0].salt = one.contents[0].salt
    return one


def short_salt(world: World) -> Put:
    one = put(world.engine, world.patient)
    one.contents[0].salt = b"short"
    return one


def outside_its_group(world: World) -> Put:
    one = put(world.engine, world.patient, None, (world.patient, consent(world.patient)))
    return Put(CommandGroup(commands=one.group.commands[:1]), one.contents)


def exchanged_in_its_group(world: World) -> Put:
    one = put(world.engine, world.patient, None, (world.patient, consent(world.patient)))
    other = put(world.engine, world.patient, None, (world.patient, consent(world.patient)))
    return Put(CommandGroup(commands=[one.group.commands[0], other.group.commands[1]]), one.contents)


def in_anothers_place(world: World) -> Put:
    one = put(world.engine, world.patient, None, (world.patient, consent(world.patient)))
    one.group.commands[0].CopyFrom(Person().sign_command(one.group.commands[0].command))
    return one


def content_for_nothing(world: World) -> Put:
    one = put(world.engine, world.patient)
    one.contents.append(Content(command_index=1, content=b"{}", salt=bytes(32)))
    return one


def long_ago() -> int:
    return time.time_ns() // 1_000_000 - 20 * 60_000


def about(somebody: Person) -> dict[str, object]:
    return {**an_observation(), "subject": {"reference": f"Patient/{somebody.address}"}}


BAD: list[tuple[Callable[[World], Put], str, str]] = [
    (tampered_signature, "BAD_SIGNATURE", "signature"),
    (high_s, "BAD_SIGNATURE", "signature"),
    (lambda w: put(Person(), w.patient), "UNKNOWN_SIGNER", "signer"),
    (lambda w: put(w.engine, w.patient, channel=ELSEWHERE), "WRONG_CHANNEL", "channel"),
    (lambda w: put(w.engine, w.patient, channel=REUSED_NAME), "WRONG_CHANNEL", "genesis_sha256"),
    (lambda w: put(w.engine, w.patient, now_ms=long_ago()), "EXPIRED", "expires_at_ms"),
    (
        # Of five minutes five seconds are left: sealed, it would be decided too late, and lie at each holder.
        lambda w: put(w.engine, w.patient, now_ms=time.time_ns() // 1_000_000 - 295_000),
        "DEADLINE_EXCEEDED",
        "expires_at_ms",
    ),
    (
        lambda w: put(w.engine, w.patient, now_ms=time.time_ns() // 1_000_000 + 600_000),
        "EXPIRED",
        "issued_at_ms",
    ),
    (lambda w: put(w.engine, Person(role=Role.ROLE_PATIENT)), "NOT_FOUND", "body.put_record.patient"),
    (lambda w: put(w.engine, w.engine), "NOT_FOUND", "body.put_record.patient"),
    (lambda w: put(w.engine, "somebody"), "INVALID", "body.put_record.patient"),
    (lambda w: put(w.engine, w.patient, version=0), "INVALID", "body.put_record.version"),
    (lambda w: put(w.engine, w.patient, record_id="1"), "INVALID", "body.put_record.record_id"),
    (lambda w: put(w.engine, w.patient, category="gossip"), "INVALID", "body.put_record.category"),
    (lambda w: put(w.engine, w.patient, category="allergies"), "INVALID", "body.put_record.category"),
    (lambda w: put(w.engine, w.patient, type_tag=b"laboratory"), "INVALID", "body.put_record.type_tag"),
    (lambda w: put(w.engine, w.patient, content_bytes=3), "INVALID", "body.put_record.content_bytes"),
    (
        lambda w: put(w.engine, w.patient, content_commitment=bytes(32)),
        "INTEGRITY",
        "body.put_record.content_commitment",
    ),
    (
        lambda w: put(w.engine, w.patient, content_commitment=b"short"),
        "INVALID",
        "body.put_record.content_commitment",
    ),
    (other_content, "INVALID", "body.put_record.content_bytes"),
    (short_salt, "INVALID", "contents.salt"),
    (no_content, "INVALID", "contents"),
    (two_contents, "INVALID", "contents[1].command_index"),
    (content_for_nothing, "INVALID", "contents[1].command_index"),
    (outside_its_group, "INVALID", "group"),
    (exchanged_in_its_group, "INVALID", "group.members_sha256"),
    (in_anothers_place, "INVALID", "group.members_sha256"),
    (
        lambda w: put(w.engine, w.patient, {**an_observation(), "status": "?"}),
        "INVALID",
        "Observation.status",
    ),
    (lambda w: put(w.engine, w.patient, about(Person())), "INVALID", "Observation.subject.reference"),
    (lambda w: put(w.engine, w.patient, about(w.engine)), "INVALID", "Observation.subject.reference"),
    (
        lambda w: put(w.engine, w.patient, {**an_observation(), "contained": [about(Person())]}),
        "INVALID",
        "Observation.contained[0].subject.reference",
    ),
    (
        lambda w: put(
            w.engine,
            w.patient,
            {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": about(Person())}]},
        ),
        "INVALID",
        "Bundle.entry[0].resource.subject.reference",
    ),
    (lambda w: put(w.engine, w.patient, {**an_observation(), "id": uuid7()}), "INVALID", "Observation.id"),
    (
        lambda w: put(w.engine, w.patient, {**an_observation(), "meta": {"versionId": "2"}}),
        "INVALID",
        "Observation.meta.versionId",
    ),
    (lambda w: put(w.engine, w.patient, b"not json", category="observations"), "INVALID", "content"),
]


@pytest.mark.parametrize(("make", "code", "path"), BAD, ids=[f"{code}:{path}" for _, code, path in BAD])
async def test_bad_input_gets_a_code_and_a_sentence_is_not_stored_and_harms_no_neighbour(
    world: World, make: Callable[[World], Put], code: str, path: str
) -> None:
    bad, good = make(world), [put(world.engine, world.patient) for _ in range(3)]

    answers = await asyncio.gather(*(world.send(one) for one in [good[0], bad, *good[1:]]))

    refused = answers.pop(1)[0].receipt
    assert (code_name(refused.code), refused.path) == (code, path)
    assert len(refused.reason) > 5
    assert refused.command_id == bad.command_id
    assert [answer[0].receipt.code for answer in answers] == [code_pb2.CODE_OK] * 3
    assert world.storage.sealed_items == 3
    assert set(world.storage.stored) == {answer[0].stored.cid for answer in answers}
    assert bad.command_id not in {key[1] for key in world.ledger.committed}


@pytest.mark.parametrize(
    "group",
    [
        CommandGroup(),
        CommandGroup(commands=[SignedCommand(command=b"\xff\xff", signer="x")]),
        CommandGroup(commands=[SignedCommand(command=b"", signer="x")]),
        CommandGroup(commands=[SignedCommand()] * 17),
    ],
    ids=["empty", "malformed", "nameless", "seventeen"],
)
async def test_what_names_no_command_is_refused_as_a_whole(world: World, group: CommandGroup) -> None:
    with pytest.raises(MeshError) as caught:
        await world.start(group, [], 10)

    assert caught.value.code == code_pb2.CODE_INVALID
    assert caught.value.path.startswith("group.commands")
    assert not world.ledger.submitted


async def test_an_emergency_that_nobody_opened_is_carried_nowhere(world: World) -> None:
    clinician = Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(clinician)
    glass = BreakGlass(patient=world.patient.address, record_id=uuid7(), version=1)
    body = EmergencyAccess(glass=glass, newest_epoch=1)
    by_content = command.make_emergency(body, clinician.address, channel=CHANNEL)
    with_any_id = command.make(body, channel=CHANNEL)

    for raw in (by_content, with_any_id):
        with pytest.raises(MeshError) as caught:
            await world.start(CommandGroup(commands=[clinician.sign_command(raw)]), [], 10)
        assert caught.value.code == code_pb2.CODE_INVALID
        assert caught.value.path == "group.commands[0].command.body"
    assert not world.ledger.submitted


async def test_a_suspended_signer_is_refused_before_anything_is_stored(world: World) -> None:
    world.ledger.register(world.engine, status=IdentityStatus.IDENTITY_STATUS_SUSPENDED)

    assert await world.code_of(put(world.engine, world.patient)) == "INACTIVE_SIGNER"
    assert not world.storage.stored


async def test_a_suspended_patients_revocation_is_carried_and_nothing_else_of_theirs(world: World) -> None:
    world.ledger.register(world.patient, status=IdentityStatus.IDENTITY_STATUS_SUSPENDED)
    revoke = RevokeConsent(consent_id=uuid7(), patient=world.patient.address)
    permit = Provision(effect=EFFECT_PERMIT)
    give = Consent(consent_id=uuid7(), patient=world.patient.address, provisions=[permit])

    def alone(body: Consent | RevokeConsent) -> Put:
        return Put(command.make_group([(world.patient, body)], channel=CHANNEL), [])

    assert await world.code_of(alone(revoke)) == "OK"
    assert await world.code_of(alone(give)) == "INACTIVE_SIGNER"


async def test_who_is_registered_a_moment_after_being_refused_is_not_refused_again(world: World) -> None:
    newcomer = Person()
    assert await world.code_of(put(newcomer, world.patient)) == "UNKNOWN_SIGNER"

    world.ledger.register(newcomer)

    async def accepted() -> bool:
        return await world.code_of(put(newcomer, world.patient)) == "OK"

    await until(accepted, "the newcomer is known", seconds=2)


async def test_a_command_or_delegation_in_ones_own_words_is_carried_nowhere(world: World) -> None:
    device, clinician = Person(role=Role.ROLE_DEVICE), Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(device, clinician)

    async def refused(signer: command.Signer, **said: str) -> tuple[str, str]:
        fields = {"patient": world.patient.address, "record_id": uuid7(), "purpose": "TREAT", **said}
        group = command.make_group([(signer, Access(version=1, **fields))], channel=CHANNEL)  # type: ignore[arg-type]
        receipt = (await world.start(group, [], 100))[0].receipt
        return code_name(receipt.code), receipt.path

    assert await refused(clinician, patient="Erika Mustermann") == ("INVALID", "body.access.patient")
    assert await refused(clinician, purpose="HIV therapy") == ("INVALID", "body.access.purpose")
    delegation = clinician.delegate(device.address, patients=("Erika Mustermann",))
    assert await refused(command.KeySigner(device.key, delegation)) == ("INVALID", "delegation.patients[0]")
    assert not world.ledger.submitted


async def test_a_policy_s_text_is_carried_for_administrators_alone(world: World) -> None:
    clinician, administrator = Person(role=Role.ROLE_CLINICIAN), Person(role=Role.ROLE_ADMINISTRATOR)
    world.ledger.register(clinician, administrator)
    meant = SetPolicy(policy=PolicyDocument(version=2, cedar="// Erika Mustermann"))

    async def answer(signer: Person) -> tuple[str, str]:
        group = command.make_group([(signer, meant)], channel=CHANNEL)
        receipt = (await world.start(group, [], 100))[0].receipt
        return code_name(receipt.code), receipt.path

    assert await answer(clinician) == ("FORBIDDEN", "signer")
    assert not world.ledger.submitted
    assert await answer(administrator) == ("OK", "")


@pytest.mark.parametrize("beside", [False, True])
async def test_a_command_names_the_delegation_beside_it_and_no_other(world: World, beside: bool) -> None:
    device, clinician = Person(role=Role.ROLE_DEVICE), Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(device, clinician)
    delegation = clinician.delegate(device.address) if beside else None
    signer = command.KeySigner(device.key, delegation)
    meant = Access(patient=world.patient.address, record_id=uuid7(), version=1, purpose="TREAT")
    header = Command.FromString(command.make(meant, channel=CHANNEL, delegation=delegation))
    header.delegation_sha256 = b"Erika Mustermann" * 100
    group = CommandGroup(commands=[signer.sign_command(header.SerializeToString())])
    refused = (await world.start(group, [], 100))[0].receipt
    assert (code_name(refused.code), refused.path) == ("INVALID", "delegation_sha256")
    assert not world.ledger.submitted


async def test_a_delegation_that_nobody_signed_is_not_carried_under_an_id_that_is_there_already(
    world: World,
) -> None:
    device, clinician = Person(role=Role.ROLE_DEVICE), Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(device, clinician)
    meant = Access(patient=world.patient.address, record_id=uuid7(), version=1, purpose="TREAT")
    first = command.make_group(
        [(command.KeySigner(device.key, clinician.delegate(device.address)), meant)], channel=CHANNEL
    )
    assert code_name((await world.start(first, [], 100))[0].receipt.code) == "OK"
    carried = len(world.ledger.submitted)
    forged = clinician.delegate(device.address)
    forged.signature = b"Erika Mustermann"
    expired = command.make(
        meant,
        channel=CHANNEL,
        now_ms=time.time_ns() // 1_000_000 - 400_000,
        command_id=Command.FromString(first.commands[0].command).command_id,
        delegation=forged,
    )
    group = CommandGroup(commands=[command.KeySigner(device.key, forged).sign_command(expired)])
    refused = (await world.start(group, [], 100))[0].receipt
    assert (code_name(refused.code), refused.path) == ("BAD_SIGNATURE", "delegation.signature")
    assert len(world.ledger.submitted) == carried


NAME = b"\xba\x3e\x10Erika Mustermann"  # field 999, which no message has


@pytest.mark.parametrize("where", ["beside", "header", "body", "twice"])
async def test_what_a_command_holds_that_nobody_reads_is_carried_nowhere(world: World, where: str) -> None:
    one = put(world.engine, world.patient)
    header = Command.FromString(one.group.commands[0].command)
    body = header.body
    if where == "body":
        body += NAME
    elif where == "twice":
        first = CommandBody(put_record=PutRecord(category="Erika Mustermann"))
        body = first.SerializeToString() + body
    header.body = body
    serialized = header.SerializeToString() + (NAME if where == "header" else b"")
    signed = world.engine.sign_command(serialized)
    if where == "beside":
        signed.MergeFromString(NAME)
    with pytest.raises(MeshError) as caught:
        await world.start(CommandGroup(commands=[signed]), one.contents, 100)
    assert caught.value.code == code_pb2.CODE_INVALID
    assert caught.value.path.startswith("group.commands[0]")
    assert not world.ledger.submitted


async def test_a_delegation_that_holds_what_nobody_reads_is_carried_nowhere(world: World) -> None:
    device, clinician = Person(role=Role.ROLE_DEVICE), Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(device, clinician)
    delegation = clinician.delegate(device.address)
    delegation.delegation += NAME
    delegation.signature = signature.sign(clinician.key, signature.DELEGATION, delegation.delegation)
    meant = Access(patient=world.patient.address, record_id=uuid7(), version=1, purpose="TREAT")
    group = command.make_group([(command.KeySigner(device.key, delegation), meant)], channel=CHANNEL)
    refused = (await world.start(group, [], 100))[0].receipt
    assert (code_name(refused.code), refused.path) == ("INVALID", "delegation")
    assert not world.ledger.submitted


async def test_an_access_is_delegated_only_with_the_delegators_own_signature(world: World) -> None:
    device, clinician = Person(role=Role.ROLE_DEVICE), Person(role=Role.ROLE_CLINICIAN)
    world.ledger.register(device, clinician)

    async def code_with(delegation) -> tuple[str, str]:  # type: ignore[no-untyped-def]
        body = Access(patient=world.patient.address, record_id=uuid7(), version=1, purpose="TREAT")
        signer = command.KeySigner(device.key, delegation)
        group = command.make_group([(signer, body)], channel=CHANNEL)
        receipt = (await world.start(group, [], 100))[0].receipt
        return code_name(receipt.code), receipt.path

    good = clinician.delegate(device.address)
    forged = clinician.delegate(device.address)
    forged.signature = Person().delegate(device.address).signature

    assert await code_with(good) == ("OK", "")
    assert await code_with(forged) == ("BAD_SIGNATURE", "delegation.signature")
    assert await code_with(Person().delegate(device.address)) == ("UNKNOWN_SIGNER", "delegation.delegator")
    assert await code_with(clinician.delegate(Person().address)) == ("FORBIDDEN", "delegation.delegate")
    elsewhere = clinician.delegate(device.address, channel=ELSEWHERE)
    assert await code_with(elsewhere) == ("WRONG_CHANNEL", "delegation.channel")
    begun_otherwise = clinician.delegate(device.address, channel=REUSED_NAME)
    assert await code_with(begun_otherwise) == ("WRONG_CHANNEL", "delegation.genesis_sha256")
    past = clinician.delegate(device.address, hours=-1)
    assert await code_with(past) == ("EXPIRED", "delegation.expires_at_ms")


async def test_a_document_with_another_key_than_the_address_says_is_not_believed(world: World) -> None:
    thief = Person()
    document = world.ledger.people[world.engine.address]
    document.signing_public_key = thief.document().signing_public_key
    one = put(world.engine, world.patient)
    signed = one.group.commands[0]
    signed.signature = signature.sign(thief.key, signature.COMMAND, signed.command)

    assert await world.code_of(one) == "INVALID"
    assert not world.storage.stored
