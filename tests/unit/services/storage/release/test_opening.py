"""Open and ReleaseKey: nothing is released but to the reader, on a decision that is proven and fresh."""

import asyncio
import dataclasses

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IDENTITY_STATUS_SUSPENDED, Verdict
from cbmdhi.protocol import command, envelope, hpke
from cbmdhi.protocol.state_keys import sealed_writer_key_name
from services.runtime.clock import now_ms
from services.runtime.errors import MeshError
from services.storage.domain.batch import MIB
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, decrypt, item
from tests.support.fakes.storage_member import Hospital
from tests.support.fakes.two_storages import World

MINUTE_MS = 60_000


async def refused(hospital: Hospital, tx_id: str, command_id: str, code: int) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await hospital.opening.open(tx_id, command_id)
    assert caught.value.code == code, caught.value
    return caught.value


async def test_a_permitted_reader_decrypts_what_the_author_wrote(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address, b"a finding")
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record)

    opened = await world.mercy.opening.open(tx_id, command_id)

    assert decrypt(reader, opened, command_id, record) == b"a finding"
    assert opened.released_by == MERCY
    assert world.mercy.wire.asked == []
    assert world.mercy.count("key_releases_total", outcome="released") == 1


async def test_a_large_record_comes_with_all_its_chunks(world: World) -> None:
    content = bytes(range(256)) * (3 * MIB // 256) + b"end"
    reader, record = world.clinician(), item(world.patient().address, content)
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record)
    opened = await world.lakeside.opening.open(tx_id, command_id)
    assert decrypt(reader, opened, command_id, record) == content


async def test_a_custodian_releases_what_it_did_not_write(world: World) -> None:
    reader, record = world.clinician(), item(world.patient(LAKESIDE).address)
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record)
    opened = await world.lakeside.opening.open(tx_id, command_id)
    assert opened.released_by == LAKESIDE
    assert world.lakeside.wire.asked == []
    assert decrypt(reader, opened, command_id, record) == b"a finding"


async def test_a_member_that_is_no_custodian_asks_the_writer(world: World) -> None:
    reader, record = world.clinician(), item(world.patient(MERCY).address)
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record)
    opened = await world.lakeside.opening.open(tx_id, command_id)
    assert opened.released_by == MERCY
    assert decrypt(reader, opened, command_id, record) == b"a finding"


async def test_a_writer_that_lost_its_vault_asks_the_custodian(world: World) -> None:
    reader, record = world.clinician(), item(world.patient(LAKESIDE).address)
    await world.write(record)
    async with world.mercy.database.transaction() as connection:
        await connection.execute("DELETE FROM writer_key")
    tx_id, command_id = world.channel.decide(reader, record)
    opened = await world.mercy.opening.open(tx_id, command_id)
    assert opened.released_by == LAKESIDE
    assert decrypt(reader, opened, command_id, record) == b"a finding"


async def test_nobody_else_can_open_what_was_released_to_the_reader(world: World) -> None:
    reader, other = world.clinician(), world.clinician()
    record = item(world.patient().address)
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record)
    opened = await world.mercy.opening.open(tx_id, command_id)
    with pytest.raises(hpke.CannotOpen):
        decrypt(dataclasses.replace(other, signer=reader.signer), opened, command_id, record)


async def test_a_refused_access_releases_nothing(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record, code=code_pb2.CODE_FORBIDDEN)
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)
    assert world.mercy.count("key_releases_total", outcome="released") == 0


async def test_a_command_sent_again_names_its_first_transaction(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record, code=code_pb2.CODE_ALREADY_COMMITTED)
    error = await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)
    assert "first" in error.reason


async def test_break_glass_releases_as_an_access_does(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    body = pb.BreakGlass(
        patient=record.patient,
        record_id=record.record_id,
        version=record.version,
    )
    tx_id, command_id = world.channel.decide(reader, record, body=body)
    opened = await world.mercy.opening.open(tx_id, command_id)
    assert decrypt(reader, opened, command_id, record) == b"a finding"


async def test_a_command_that_is_no_access_releases_nothing(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    body = pb.PutRecord(record_id=record.record_id, version=1, patient=record.patient)
    decided = world.channel.decide(reader, record, body=body)
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)


async def test_one_member_alone_cannot_decide(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record, endorsers=world.channel.network.peers[:1])
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)
    await refused(world.lakeside, *decided, code_pb2.CODE_FORBIDDEN)


async def test_a_transaction_that_was_committed_as_invalid_releases_nothing(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record, flag=11)
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)


async def test_a_forged_proof_releases_nothing(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record, code=code_pb2.CODE_FORBIDDEN)
    true = world.channel.proofs[tx_id]
    forged = true.replace(b"\x10\x07", b"\x10\x01")  # CODE_FORBIDDEN -> CODE_OK
    assert forged != true
    world.channel.proofs[tx_id] = forged
    await refused(world.mercy, tx_id, command_id, code_pb2.CODE_FORBIDDEN)


async def test_a_decision_is_worth_nothing_for_another_transaction_or_command(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    tx_id, command_id = world.channel.decide(reader, record)
    other_tx, other_command = world.channel.decide(reader, record, code=code_pb2.CODE_FORBIDDEN)
    await refused(world.mercy, tx_id, other_command, code_pb2.CODE_FORBIDDEN)
    await refused(world.mercy, other_tx, command_id, code_pb2.CODE_FORBIDDEN)


async def test_a_grant_is_good_for_ten_minutes(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.mercy.clock_ms = lambda: now_ms() + 9 * MINUTE_MS
    await world.mercy.opening.open(*decided)
    world.mercy.clock_ms = lambda: now_ms() + 10 * MINUTE_MS + 1
    error = await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)
    assert "new command" in error.reason


async def test_a_grant_dated_ahead_is_refused(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.mercy.clock_ms = lambda: now_ms() - 2 * MINUTE_MS
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)


async def test_a_reader_suspended_since_gets_nothing(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    reader.document.status = IDENTITY_STATUS_SUSPENDED
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)


async def test_another_member_believes_its_own_ledger_alone(world: World) -> None:
    reader, record = world.clinician(), item(world.patient(MERCY).address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.mercy.ledger.behind.add(decided[0])

    await refused(world.lakeside, *decided, code_pb2.CODE_UNAVAILABLE)
    assert world.lakeside.wire.asked == [MERCY]

    world.mercy.ledger.behind.clear()
    await world.lakeside.opening.open(*decided)


async def test_a_key_is_not_released_for_another_records_envelope(world: World) -> None:
    patient, reader = world.patient(), world.clinician()
    mine, other = item(patient.address), item(patient.address, b"not yours to read")
    await world.write(mine, other)
    decided = world.channel.decide(reader, mine)
    header = await _header(world, other.record_id, 1)
    with pytest.raises(MeshError) as caught:
        await world.lakeside.releasing.release(*decided, header)
    assert caught.value.code == code_pb2.CODE_INTEGRITY


async def test_a_swapped_cid_does_not_open(world: World) -> None:
    patient, reader = world.patient(), world.clinician()
    mine, other = item(patient.address), item(patient.address, b"not yours to read")
    await world.write(mine, other)
    entry = world.channel.records[mine.record_id, 1]
    entry.content.cid = world.channel.records[other.record_id, 1].content.cid
    decided = world.channel.decide(reader, mine)
    await refused(world.mercy, *decided, code_pb2.CODE_INTEGRITY)


async def test_an_envelope_under_another_writer_key_does_not_open(world: World) -> None:
    reader = world.clinician()
    mine, other = item(world.patient().address), item(world.patient().address)
    await world.write(mine, other)
    entry = world.channel.records[mine.record_id, 1]
    entry.content.cid = world.channel.records[other.record_id, 1].content.cid
    decided = world.channel.decide(reader, mine)
    error = await refused(world.mercy, *decided, code_pb2.CODE_INTEGRITY)
    assert "writer key" in error.reason


async def test_a_member_that_gives_no_sealed_key_is_passed_over(world: World) -> None:
    reader, record = world.clinician(), item(world.patient(MERCY).address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.lakeside.wire.lying.add(MERCY)
    await refused(world.lakeside, *decided, code_pb2.CODE_INTEGRITY)


async def test_a_transaction_is_proven_once_however_many_records_are_read(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    await asyncio.gather(*(world.mercy.opening.open(*decided) for _ in range(5)), return_exceptions=True)
    assert world.mercy.ledger.asked_for_proofs == 1


async def test_a_decision_about_another_patients_record_releases_nothing(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    body = pb.Access(
        patient=world.patient().address, record_id=record.record_id, version=1, purpose="TREAT", action="read"
    )
    decided = world.channel.decide(reader, record, body=body)
    await refused(world.mercy, *decided, code_pb2.CODE_FORBIDDEN)


async def test_an_exchanged_sealed_writer_key_is_noticed(world: World) -> None:
    reader, patient = world.clinician(), world.patient(LAKESIDE)
    record = item(patient.address)
    await world.write(record)
    key_id = world.channel.records[record.record_id, 1].content.writer_key.key_id
    public = patient.document.hpke_public_key
    other = hpke.seal(public, bytes(32), hpke.WRITER_KEY, patient.address, MERCY, key_id)
    world.channel.private[LAKESIDE, sealed_writer_key_name(MERCY, key_id)] = other
    decided = world.channel.decide(reader, record)
    with pytest.raises(MeshError) as caught:
        await world.lakeside.releasing.release(*decided, await _header(world, record.record_id, 1))
    assert caught.value.code == code_pb2.CODE_INTEGRITY
    assert world.lakeside.count("integrity_failures_total", what="sealed-key") == 1


async def _header(world: World, record_id: str, version: int) -> bytes:
    cid = world.channel.records[record_id, version].content.cid
    return envelope.header(world.mercy.kubo.blocks[cid])[0]


async def test_a_decision_releases_its_key_once_whoever_asks_and_also_after_a_restart(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)

    answers = await asyncio.gather(
        *(world.mercy.opening.open(*decided) for _ in range(7)), return_exceptions=True
    )

    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert {answer.code for answer in answers if isinstance(answer, MeshError)} == {code_pb2.CODE_CONFLICT}
    # Nor is the other custodian asked for what the own member has released.
    assert not world.mercy.wire.asked
    again = await world.start(MERCY, world.mercy.kubo)
    await refused(again, *decided, code_pb2.CODE_CONFLICT)
    # A new Access is another decision, with an audit entry of its own.
    fresh = world.channel.decide(reader, record)
    assert decrypt(reader, await again.opening.open(*fresh), fresh[1], record) == b"a finding"


async def test_another_member_releases_on_a_decision_once(world: World) -> None:
    reader, record = world.clinician(), item(world.patient(MERCY).address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    assert (await world.lakeside.opening.open(*decided)).released_by == MERCY
    await refused(world.lakeside, *decided, code_pb2.CODE_CONFLICT)


async def test_what_was_permitted_is_not_released_after_the_consent_was_revoked(world: World) -> None:
    reader = world.clinician()
    records = [item(world.patient().address) for _ in range(2)]
    await world.write(*records)
    decided = [world.channel.decide(reader, record) for record in records]
    world.channel.denied.add(records[0].record_id)

    revoked, other = await world.mercy.opening.open_many(decided)

    assert isinstance(revoked, MeshError)
    assert revoked.code == code_pb2.CODE_FORBIDDEN
    assert not isinstance(other, MeshError)
    assert len(world.mercy.ledger.asked_for_consents) == 1
    # Given again, it may still be used: nothing was released on it.
    world.channel.denied.clear()
    await world.mercy.opening.open(*decided[0])


async def test_of_a_delegated_decision_it_is_asked_whether_the_delegation_stands_still(world: World) -> None:
    device, person, record = world.clinician(), world.clinician(), item(world.patient().address)
    await world.write(record)
    raw = pb.Delegation(delegator=person.address).SerializeToString()
    signer = command.KeySigner(device.signer.private_key, pb.SignedDelegation(delegation=raw))
    device = dataclasses.replace(device, signer=signer)

    await world.mercy.opening.open(*world.channel.decide(device, record))

    [[asked]] = world.mercy.ledger.asked_for_consents
    assert (asked.principal, asked.delegation) == (person.address, raw)


async def test_nothing_is_released_while_the_own_peer_cannot_say_how_it_would_decide(
    world: World,
) -> None:
    reader, record = world.clinician(), item(world.patient(MERCY).address)
    await world.write(record)
    decided = world.channel.decide(reader, record)

    async def away(_: object) -> list[Verdict]:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")

    world.mercy.ledger.explain = away  # type: ignore[method-assign]
    await refused(world.mercy, *decided, code_pb2.CODE_UNAVAILABLE)


async def test_a_broken_glass_asks_for_nobodys_consent(world: World) -> None:
    reader, record = world.clinician(), item(world.patient().address)
    await world.write(record)
    world.channel.denied.add(record.record_id)
    body = pb.BreakGlass(patient=record.patient, record_id=record.record_id, version=1)
    decided = world.channel.decide(reader, record, body=body)
    assert decrypt(reader, await world.mercy.opening.open(*decided), decided[1], record) == b"a finding"
