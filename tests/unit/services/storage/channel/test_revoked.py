"""Whom a Fabric CA has revoked, and the channel knows nothing of it: storage gives and takes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import command
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations
from tests.support.fakes.committed_channel import MERCY, Person, decrypt, item
from tests.support.fakes.storage_member import Hospital
from tests.support.fakes.two_storages import World


async def refusal(hospital: Hospital, tx_id: str, command_id: str) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await hospital.opening.open(tx_id, command_id)
    return caught.value


async def test_a_revoked_readers_decision_releases_nothing_at_any_member(world: World) -> None:
    reader, other, record = world.clinician(), world.clinician(), item(world.patient().address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.revoke(reader, world.mercy, world.lakeside)

    for hospital in (world.mercy, world.lakeside):
        assert (await refusal(hospital, *decided)).code == code_pb2.CODE_INACTIVE_SIGNER
        with pytest.raises(MeshError) as caught:
            await hospital.releasing.release(*decided, b"")
        assert caught.value.code == code_pb2.CODE_INACTIVE_SIGNER
        assert hospital.count("key_releases_total", outcome="refused") >= 1
        assert hospital.count("key_releases_total", outcome="released") == 0
    # Nobody else is.
    tx_id, command_id = world.channel.decide(other, record)
    opened = await world.mercy.opening.open(tx_id, command_id)
    assert decrypt(other, opened, command_id, record) == b"a finding"


async def test_a_member_whose_own_storage_heard_of_it_does_not_release_for_one_that_did_not(
    world: World,
) -> None:
    reader, record = world.clinician(), item(world.patient(MERCY).address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    world.revoke(reader, world.mercy)

    assert (await refusal(world.lakeside, *decided)).code == code_pb2.CODE_INACTIVE_SIGNER
    assert world.lakeside.wire.asked == [MERCY]


async def test_a_device_reads_nothing_for_a_clinician_who_was_revoked(world: World) -> None:
    clinician, device, record = world.clinician(), world.clinician(), item(world.patient().address)
    await world.write(record)
    stated = pb.Delegation(delegator=clinician.address).SerializeToString()
    acting = replace(
        device, signer=command.KeySigner(device.signer.private_key, pb.SignedDelegation(delegation=stated))
    )
    first = world.channel.decide(acting, record)
    assert await world.mercy.opening.open(*first)

    second = world.channel.decide(acting, record)
    world.revoke(clinician, world.mercy, world.lakeside)

    assert (await refusal(world.mercy, *second)).code == code_pb2.CODE_INACTIVE_SIGNER


async def test_a_revoked_patients_records_are_read_by_those_who_treat(world: World) -> None:
    reader, patient = world.clinician(), world.patient()
    record = item(patient.address)
    await world.write(record)
    world.revoke(patient, world.mercy, world.lakeside)

    tx_id, command_id = world.channel.decide(reader, record)

    opened = await world.mercy.opening.open(tx_id, command_id)
    assert decrypt(reader, opened, command_id, record) == b"a finding"


async def test_what_a_revoked_author_signed_is_not_sealed_and_its_neighbours_are(world: World) -> None:
    thief, honest, patient = world.clinician(), world.clinician(), world.patient()
    stolen, good = by(thief, patient), by(honest, patient)
    world.revoke(thief, world.mercy)

    batch = await world.mercy.sealing.seal([stolen, good])

    assert [one.code for one in batch.results] == [code_pb2.CODE_INACTIVE_SIGNER, code_pb2.CODE_OK]
    assert world.mercy.count("items_refused_total", code="INACTIVE_SIGNER") == 1


async def test_what_was_sealed_for_an_author_who_is_revoked_since_is_not_handed_out_again(
    world: World,
) -> None:
    thief, patient = world.clinician(), world.patient()
    stolen = by(thief, patient)
    [before] = (await world.mercy.sealing.seal([stolen])).results
    world.revoke(thief, world.mercy)

    [after] = (await world.mercy.sealing.seal([stolen])).results

    assert (before.code, after.code) == (code_pb2.CODE_OK, code_pb2.CODE_INACTIVE_SIGNER)


async def test_nobody_is_looked_up_while_no_author_was_revoked(world: World) -> None:
    author, patient = world.clinician(), world.patient()
    await world.mercy.sealing.seal([by(author, patient)])
    assert all(author.address not in asked for asked in world.mercy.ledger.asked_for_identities)


async def test_while_it_is_not_known_whom_a_member_revoked_nothing_of_its_people_is_done(
    world: World,
) -> None:
    reader, author, patient = world.clinician(), world.clinician(), world.patient()
    record = item(patient.address)
    await world.write(record)
    decided = world.channel.decide(reader, record)
    for hospital in (world.mercy, world.lakeside):
        forget(hospital.revocations)

    assert (await refusal(world.mercy, *decided)).code == code_pb2.CODE_UNAVAILABLE
    [result] = (await world.mercy.sealing.seal([by(author, patient)])).results
    assert result.code == code_pb2.CODE_UNAVAILABLE


def by(author: Person, patient: Person):
    return replace(item(patient.address), signer=author.address)


def forget(revocations: Revocations) -> None:
    """As a service that was started a moment ago."""
    revocations._lists.clear()  # pyright: ignore[reportPrivateUsage]
