"""Who has broken into a member's gateway answers its clients as it likes: nothing of it is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cbmdhi.client import Client
from cbmdhi.client.commands import submit_group
from cbmdhi.client.consents import provision
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import NotCommitted, UnknownOutcome, Unproven
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command, envelope, hpke, signature
from cbmdhi.protocol.ids import uuid7
from cbmdhi.verify import verify_receipt
from tests.support.fakes.evidence import Committed, Person
from tests.support.fakes.fabric_blocks import Network as OtherNetwork
from tests.support.mesh import People, observation
from tests.support.rogue import RogueGateway, Serving, refusal, signed_record, written

pytestmark = pytest.mark.asyncio(loop_scope="session")


# What a reader is shown


Forge = Callable[[RogueGateway, Client, pb.Access, gateway_pb2.ReadResponse], None]


def exchange_content(
    _: RogueGateway, reader: Client, asked: pb.Access, answer: gateway_pb2.ReadResponse
) -> None:
    """Content, CID, commitment and key, of one piece: all that is in the gateway's hands."""
    content, salt, key = b'{"resourceType":"Observation"}', envelope.new_salt(), envelope.new_salt()
    binding = envelope.Binding(asked.patient, asked.record_id, asked.version)
    sealed = envelope.seal(content, salt, binding, uuid7(), envelope.new_salt(), key)
    opened = answer.opened
    del opened.blocks[:]
    opened.blocks.extend(block for _, block in sealed.blocks)
    place = (reader.wallet.address, answer.receipt.command_id, asked.record_id, str(asked.version))
    opened.sealed_data_key = hpke.seal(reader.wallet.hpke_public, key, hpke.DATA_KEY, *place)
    opened.record.content.cid = sealed.cid
    opened.record.content_commitment = envelope.commitment(salt, content)


def leave_evidence_out(
    rogue: RogueGateway, reader: Client, asked: pb.Access, answer: gateway_pb2.ReadResponse
) -> None:
    exchange_content(rogue, reader, asked, answer)
    answer.ClearField("evidence")


def make_evidence(
    rogue: RogueGateway, reader: Client, asked: pb.Access, answer: gateway_pb2.ReadResponse
) -> None:
    """By peers and an author of a consortium of its own."""
    exchange_content(rogue, reader, asked, answer)
    answer.evidence.CopyFrom(made_up(reader, answer.opened.record))


def change_what_the_author_signed(
    rogue: RogueGateway, reader: Client, asked: pb.Access, answer: gateway_pb2.ReadResponse
) -> None:
    exchange_content(rogue, reader, asked, answer)
    [signed] = answer.evidence.commands
    header, body = command.parse(signed)
    body.put_record.content_commitment = answer.opened.record.content_commitment
    header.body = body.SerializeToString(deterministic=True)
    signed.command = header.SerializeToString(deterministic=True)
    signed.signature = signature.sign(rogue.device_key, signature.COMMAND, signed.command)


def made_up(reader: Client, record: state_pb2.RecordVersion) -> ledger_pb2.Evidence:
    other = OtherNetwork()
    committed = Committed(other, people=[Person(other.mercy)])
    made = committed.put(
        committed.people[0],
        record.content_commitment,
        record_id=record.record_id,
        version=record.version,
        patient=record.patient,
        stored=record.content,
        channel=reader.wallet.consortium.signed_channel,
    )
    return committed.of([made])


@pytest.mark.parametrize(
    "forge",
    [exchange_content, leave_evidence_out, make_evidence, change_what_the_author_signed],
    ids=lambda forge: forge.__name__,
)
async def test_a_reader_is_shown_nothing_that_the_gateway_made(
    people: People, patient: Client, rogue: RogueGateway, forge: Forge
) -> None:
    record = observation(patient)
    await written(people.engine, people.engine.records.prepare(record))
    place = (patient.wallet.address, record.record_id, 1, "PATRQT")
    async with Serving(rogue) as serving, Client(serving.serves(patient.wallet)) as reader:
        # Unchanged, the answer of the gateway that was broken into is as good as any.
        assert (await reader.records.read(*place)).content == record.content
    async with Serving(rogue) as serving, Client(serving.serves(patient.wallet)) as reader:

        async def forged(asked: pb.Access, answer: gateway_pb2.ReadResponse) -> None:
            forge(rogue, reader, asked, answer)

        serving.forges = forged
        error = await refusal(reader.records.read(*place))
        assert error.code_name == "INTEGRITY", error
        assert "another member" in error.reason or "not as" in error.reason or "not open" in error.reason, (
            error
        )
    assert (await patient.records.read(*place)).content == record.content


async def test_what_is_read_under_a_command_is_what_its_author_meant_or_nothing(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    prepared, signed, content = signed_record(people.engine, observation(patient))
    other = b'{"resourceType":"Observation","status":"cancelled"}'
    forged = await rogue.seal(signed, other, content.salt, envelope.commitment(content.salt, other))
    [receipt] = await rogue.carry(forged)
    assert receipt.code == code_pb2.CODE_OK
    place = (patient.wallet.address, prepared.record.record_id, 1, "PATRQT")
    assert (await refusal(patient.records.read(*place))).code_name == "INTEGRITY"


async def test_a_committed_command_sent_again_with_another_content_changes_nothing(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    prepared, signed, content = signed_record(people.engine, observation(patient))
    first = (await written(people.engine, prepared)).receipt
    [again] = await rogue.carry(
        await rogue.seal(signed, b"other", content.salt, envelope.commitment(content.salt, b"other"))
    )
    assert again.already_committed
    assert (again.code, again.tx_id) == (first.code, first.tx_id)
    reading = await patient.records.read(patient.wallet.address, prepared.record.record_id, 1, "PATRQT")
    assert reading.content == prepared.record.content


async def test_what_was_signed_is_worth_nothing_once_it_is_changed_or_under_another_name(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    _, signed, content = signed_record(people.engine, observation(patient))
    header, body = command.parse(signed)
    body.put_record.content_commitment = envelope.commitment(content.salt, b"other")
    header.body = body.SerializeToString(deterministic=True)
    raw = header.SerializeToString(deterministic=True)
    changed = pb.SignedCommand(command=raw, signature=signed.signature, signer=signed.signer)
    own = pb.SignedCommand(
        command=raw, signature=signature.sign(rogue.device_key, signature.COMMAND, raw), signer=signed.signer
    )
    for forged in (changed, own):
        [receipt] = await rogue.carry(await rogue.seal(forged, b"other", content.salt))
        assert code_pb2.Code.Name(receipt.code) == "CODE_BAD_SIGNATURE"
        assert receipt.outcome == code_pb2.OUTCOME_NOT_DONE
    # The author's own command is as good as before.
    [receipt] = await rogue.carry(await rogue.seal(signed, content.content, content.salt))
    assert receipt.code == code_pb2.CODE_OK


async def made_up_receipts(request: gateway_pb2.SubmitRequest) -> gateway_pb2.SubmitResponse:
    """It is done, says the gateway, and carries nothing."""
    receipts = [
        ledger_pb2.Receipt(
            command_id=command.parse(signed)[0].command_id,
            signer=signed.signer,
            code=code_pb2.CODE_OK,
            outcome=code_pb2.OUTCOME_COMMITTED,
            tx_id="ab" * 32,
            block=7,
        )
        for signed in request.group.commands
    ]
    return gateway_pb2.SubmitResponse(receipts=[gateway_pb2.RecordReceipt(receipt=one) for one in receipts])


async def test_a_receipt_that_the_gateway_made_up_does_not_verify(
    people: People, patient: Client, rogue: RogueGateway
) -> None:
    prepared, signed, _ = signed_record(people.engine, observation(patient))
    command_id = command.parse(signed)[0].command_id
    other = Committed(OtherNetwork())
    other.enter(signed, patient.wallet.address)
    async with (
        Serving(rogue, submit=made_up_receipts, evidence=other.evidence()) as serving,
        Client(serving.serves(people.engine.wallet)) as engine,
    ):
        error = await refusal(submit_group(engine.connection, prepared.item.group, prepared.item.contents))
        assert isinstance(error, Unproven)
        made_up_proof = await verify_receipt(engine, "ab" * 32, command_id)
    async with Client(people.engine.wallet, "lakeside") as elsewhere:
        nothing = await verify_receipt(elsewhere, "ab" * 32, command_id)
    assert not made_up_proof.ok
    assert not nothing.ok
    # What was never carried is still to be had, by the same bytes.
    first = await written(people.engine, prepared)
    assert not first.receipt.already_committed


Document = Callable[[Client, str], Awaitable[object]]


async def revoke_consent(patient: Client, consent_id: str) -> None:
    await patient.consents.revoke(consent_id)


async def deny(patient: Client, consent_id: str) -> None:
    await patient.consents.grant(provision(msp="LakesideMSP", deny=True), consent_id=consent_id)


async def suspend(patient: Client, _: str) -> None:
    await patient.registration.suspend(patient.wallet.address, "other")


@pytest.mark.parametrize("document", [revoke_consent, deny, suspend], ids=lambda one: one.__name__)
async def test_a_gateway_that_says_done_and_never_carried_it_is_found_out_and_another_member_carries_it(
    people: People, rogue: RogueGateway, document: Document
) -> None:
    async with await people.new_patient() as patient:
        consent_id, _ = await patient.consents.grant(provision(msp="LakesideMSP"))
        shown = await patient.consents.list()
        async with (
            Serving(rogue, submit=made_up_receipts, consents=shown) as serving,
            Client(serving.serves(patient.wallet)) as deceived,
            Client(patient.wallet, "lakeside") as elsewhere,
        ):
            error = await refusal(document(deceived, consent_id))
            assert isinstance(error, Unproven), error
            assert await patient.consents.list() == shown
            [again] = error.again
            assert isinstance(again, gateway_pb2.SubmitRequest)
            [entry] = await submit_group(elsewhere.connection, again.group)
            assert not entry.receipt.already_committed
            # Whoever suspended themselves can still have that proven.
            proven = await verify_receipt(elsewhere, entry.receipt.tx_id, entry.receipt.command_id)
            assert proven.ok, proven


@pytest.mark.parametrize("said", ["nothing", "nothing was done"])
async def test_what_a_gateway_holds_back_or_lies_about_another_members_tells_and_nothing_doubles(
    people: People, patient: Client, rogue: RogueGateway, said: str
) -> None:
    prepared, signed, content = signed_record(people.engine, observation(patient))
    carried: list[ledger_pb2.Receipt] = []

    async def hold_back(_: gateway_pb2.SubmitRequest) -> gateway_pb2.SubmitResponse:
        if not carried:
            carried.extend(await rogue.carry(await rogue.seal(signed, content.content, content.salt)))
        if said == "nothing":
            await asyncio.Event().wait()
        lie = ledger_pb2.Receipt(
            command_id=carried[0].command_id,
            signer=signed.signer,
            code=code_pb2.CODE_EXPIRED,
            reason="it came too late",
            outcome=code_pb2.OUTCOME_NOT_DONE,
        )
        return gateway_pb2.SubmitResponse(receipts=[gateway_pb2.RecordReceipt(receipt=lie)])

    async with (
        Serving(rogue, submit=hold_back) as serving,
        Client(serving.serves(people.engine.wallet), deadline_seconds=3.0) as engine,
        Client(people.engine.wallet, "lakeside") as elsewhere,
    ):
        error = await refusal(submit_group(engine.connection, prepared.item.group, prepared.item.contents))
        if said == "nothing":
            assert isinstance(error, UnknownOutcome)
            [again] = error.again
            assert isinstance(again, gateway_pb2.SubmitRequest)
            [entry] = await submit_group(elsewhere.connection, again.group, again.contents)
            assert entry.receipt.already_committed
            assert (entry.receipt.tx_id, entry.receipt.code) == (carried[0].tx_id, code_pb2.CODE_OK)
        else:
            # Believed, and signed anew: the record is there already.
            assert isinstance(error, NotCommitted)
            anew = people.engine.records.prepare(prepared.record)
            why = await refusal(submit_group(elsewhere.connection, anew.item.group, anew.item.contents))
            assert why.code_name == "CONFLICT"
        proven = await verify_receipt(elsewhere, carried[0].tx_id, carried[0].command_id)
        assert proven.ok, proven
