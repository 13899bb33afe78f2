"""What is held for other members, and evidence."""

import hashlib
import secrets
from collections.abc import Sequence

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import car, cid, replica
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import MeshError
from services.storage.domain import batch
from services.storage.domain.lease import LEASE_MS, Content
from tests.support.channel import CHANNEL
from tests.support.fakes.committed_channel import AUTHOR, LAKESIDE, MERCY, item
from tests.support.fakes.storage_member import FakeKubo
from tests.support.fakes.two_storages import World

COMMAND = (uuid7(), AUTHOR)


def packed(*contents: bytes) -> batch.Packed:
    return batch.pack([(cid.raw(content), content) for content in contents])


def name_of(content: bytes) -> bytes:
    return cid.binary(cid.RAW, content)


def contents_of(*contents: bytes) -> list[Content]:
    return [Content(cid.raw(content), uuid7(), AUTHOR) for content in contents]


async def refused(
    world: World, packed_car: bytes, root: str, code: int, contents: Sequence[Content] = ()
) -> None:
    with pytest.raises(MeshError) as caught:
        await world.lakeside.hosting.replicate(
            MERCY, packed_car, root, contents or contents_of(b"one", b"two")
        )
    assert caught.value.code == code, caught.value
    assert not world.lakeside.kubo.blocks


async def test_a_receipt_is_signed_by_the_registered_key(world: World) -> None:
    sent, contents = packed(b"one", b"two"), contents_of(b"one", b"two")
    receipt = await world.lakeside.hosting.replicate(MERCY, sent.car, sent.root_cid, contents)
    replica.verify_receipt(
        receipt, CHANNEL.genesis_sha256, world.channel.members[LAKESIDE].storage_signing_key
    )
    assert receipt.msp == LAKESIDE
    assert receipt.root_sha256 == cid.digest(sent.root_cid)
    named = replica.contents(one.sealed for one in contents)
    assert receipt.contents_sha256 == hashlib.sha256(named).digest()
    again = await world.lakeside.hosting.replicate(MERCY, sent.car, sent.root_cid, contents)
    assert again.root_sha256 == receipt.root_sha256


async def test_a_batch_that_is_held_for_some_commands_is_not_held_for_others_meanwhile(world: World) -> None:
    sent = packed(b"one")
    await world.lakeside.hosting.replicate(MERCY, sent.car, sent.root_cid, contents_of(b"one"))
    with pytest.raises(MeshError) as caught:
        await world.lakeside.hosting.replicate(MERCY, sent.car, sent.root_cid, contents_of(b"one"))
    assert caught.value.code == code_pb2.CODE_CONFLICT


@pytest.mark.parametrize(
    "contents",
    [
        contents_of(b"one"),
        contents_of(b"one", b"two", b"three"),
        contents_of(b"one", b"one"),
        [Content(cid.raw(content), "no command", AUTHOR) for content in (b"one", b"two")],
        [Content(cid.raw(content), uuid7(), "nobody") for content in (b"one", b"two")],
        [Content(cid.raw(content), uuid7(), AUTHOR, b"short") for content in (b"one", b"two")],
    ],
)
async def test_a_batch_whose_contents_are_not_each_named_once_for_a_command_is_refused(
    world: World, contents: list[Content]
) -> None:
    sent = packed(b"one", b"two")
    await refused(world, sent.car, sent.root_cid, code_pb2.CODE_INVALID, contents)


async def test_a_car_with_a_changed_block_is_refused(world: World) -> None:
    sent = packed(b"one", b"two")
    await refused(world, sent.car.replace(b"two", b"owt"), sent.root_cid, code_pb2.CODE_INTEGRITY)


async def test_a_car_that_lacks_what_its_root_links_to_is_refused(world: World) -> None:
    root = cid.batch_root([name_of(b"one"), name_of(b"elsewhere")])
    sent = car.write(root.cid, [(root.cid, root.block), (name_of(b"one"), b"one")])
    await refused(world, sent, cid.from_bytes(root.cid), code_pb2.CODE_INVALID)


async def test_a_car_with_more_than_its_root_links_to_is_refused(world: World) -> None:
    root = cid.batch_root([name_of(b"one")])
    blocks = [(root.cid, root.block), (name_of(b"one"), b"one"), (name_of(b"more"), b"more")]
    await refused(world, car.write(root.cid, blocks), cid.from_bytes(root.cid), code_pb2.CODE_INVALID)


async def test_a_car_in_another_order_or_with_a_block_twice_is_refused(
    world: World,
) -> None:
    one, two = ((name_of(data), data) for data in (b"one", b"two"))
    root = cid.batch_root([one[0], two[0]])
    for blocks in ([two, one], [one, two, one], [one, one, two]):
        sent = car.write(root.cid, [(root.cid, root.block), *blocks])
        await refused(world, sent, cid.from_bytes(root.cid), code_pb2.CODE_INVALID)
    twice = cid.batch_root([one[0], one[0]])
    sent = car.write(twice.cid, [(twice.cid, twice.block), one, one])
    await refused(world, sent, cid.from_bytes(twice.cid), code_pb2.CODE_INVALID)


async def test_a_root_that_links_to_another_root_is_refused(world: World) -> None:
    inner = cid.batch_root([name_of(b"one")])
    outer = cid.batch_root([inner.cid])
    sent = car.write(outer.cid, [(outer.cid, outer.block), (inner.cid, inner.block)])
    await refused(world, sent, cid.from_bytes(outer.cid), code_pb2.CODE_INVALID)


async def test_a_car_under_another_name_and_garbage_are_refused(world: World) -> None:
    await refused(world, packed(b"one").car, packed(b"two").root_cid, code_pb2.CODE_INVALID)
    await refused(world, b"garbage", packed(b"two").root_cid, code_pb2.CODE_INVALID)
    await refused(world, packed(b"one").car, "no cid", code_pb2.CODE_INVALID)


async def test_a_car_that_names_a_block_of_it_as_root_is_refused(world: World) -> None:
    root = cid.batch_root([name_of(b"one")])
    sent = car.write(name_of(b"one"), [(root.cid, root.block), (name_of(b"one"), b"one")])
    await refused(world, sent, cid.from_bytes(root.cid), code_pb2.CODE_INVALID)


async def test_a_batch_s_list_of_links_is_not_held_as_a_blob(world: World) -> None:
    """A node keeps blocks by their hash: let go of as a blob, it would be gone from the batch."""
    listed = batch.pack_blob(cid.batch_root([name_of(b"one")]).block)
    contents = [Content(listed.root_cid, uuid7(), AUTHOR)]
    await refused(world, listed.car, listed.root_cid, code_pb2.CODE_INVALID, contents)


async def test_a_car_over_the_limit_is_refused(world: World) -> None:
    await refused(world, bytes(batch.MAX_CAR_BYTES + 1), packed(b"one").root_cid, code_pb2.CODE_TOO_LARGE)


async def test_evidence_is_held_by_both_and_found_from_either(world: World) -> None:
    blob = b"sealed already"
    name = cid.raw(blob)
    assert await world.mercy.blobs.put(blob, name, *COMMAND) == (MERCY, LAKESIDE)
    for hospital in (world.mercy, world.lakeside):
        assert name in hospital.kubo.pinned
        assert await hospital.blobs.get(name) == blob


async def test_a_gateway_is_given_what_records_lie_in_and_no_evidence(world: World) -> None:
    entry = identity_pb2.EvidenceKey(reviewer=AUTHOR, sealed=bytes(1_168))
    evidence = identity_pb2.SealedEvidence(ciphertext=secrets.token_bytes(500), keys=[entry])
    blob = evidence.SerializeToString()
    await world.mercy.blobs.put(blob, cid.raw(blob), *COMMAND)
    small, large = item(world.patient().address), item(world.patient().address, bytes(2 * batch.MIB))
    await world.write(small, large)
    for record in (small, large):
        name = world.channel.records[record.record_id, 1].content.cid
        cid.check(name, await world.mercy.blobs.envelope(name))
    with pytest.raises(MeshError) as caught:
        await world.mercy.blobs.envelope(cid.raw(blob))
    assert caught.value.code == code_pb2.CODE_FORBIDDEN


async def test_evidence_that_is_held_already_is_not_sent_again(world: World) -> None:
    blob = b"sealed already"
    await world.mercy.blobs.put(blob, cid.raw(blob), *COMMAND)
    world.mercy.wire.down.add(LAKESIDE)
    assert await world.mercy.blobs.put(blob, cid.raw(blob), *COMMAND) == (MERCY, LAKESIDE)


async def test_evidence_that_was_lost_is_fetched_and_put_back(world: World) -> None:
    blob = b"sealed already"
    name = cid.raw(blob)
    await world.mercy.blobs.put(blob, name, *COMMAND)
    lost = await world.start(MERCY, FakeKubo())
    assert await lost.blobs.get(name) == blob
    assert name in lost.kubo.pinned


async def test_evidence_under_a_wrong_name_or_too_large_is_refused(world: World) -> None:
    for blob, name, code in (
        (b"one", cid.raw(b"two"), code_pb2.CODE_INVALID),
        (b"", cid.raw(b""), code_pb2.CODE_INVALID),
        (bytes(batch.MIB + 1), cid.raw(b"one"), code_pb2.CODE_TOO_LARGE),
    ):
        with pytest.raises(MeshError) as caught:
            await world.mercy.blobs.put(blob, name, *COMMAND)
        assert caught.value.code == code
    assert not world.mercy.kubo.blocks


async def test_evidence_that_found_too_few_holders_can_be_put_later(world: World) -> None:
    blob = b"sealed already"
    world.mercy.wire.down.add(LAKESIDE)
    with pytest.raises(MeshError) as caught:
        await world.mercy.blobs.put(blob, cid.raw(blob), *COMMAND)
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    world.mercy.wire.down.clear()
    assert await world.mercy.blobs.put(blob, cid.raw(blob), *COMMAND) == (MERCY, LAKESIDE)


async def test_evidence_of_a_registration_that_came_to_nothing_goes_and_that_of_another_stays(
    world: World,
) -> None:
    kept, lost = b"sealed already", b"sealed too"
    patient = world.patient()
    await world.mercy.blobs.put(kept, cid.raw(kept), uuid7(), patient.address)
    await world.mercy.blobs.put(lost, cid.raw(lost), uuid7(), patient.address)
    patient.document.evidence_cid = cid.raw(kept)

    await world.settle(LEASE_MS / 1000 + 60)

    for hospital in (world.mercy, world.lakeside):
        assert hospital.kubo.pinned == {cid.raw(kept)}
        assert await hospital.leases.count() == 0


async def test_a_block_that_nobody_has_is_not_found_and_nonsense_is_invalid(world: World) -> None:
    for name, code in ((cid.raw(b"nowhere"), code_pb2.CODE_NOT_FOUND), ("nonsense", code_pb2.CODE_INVALID)):
        with pytest.raises(MeshError) as caught:
            await world.mercy.blobs.get(name)
        assert caught.value.code == code


async def test_a_block_is_not_called_missing_while_a_member_is_silent(world: World) -> None:
    world.mercy.wire.down.add(LAKESIDE)
    with pytest.raises(MeshError) as caught:
        await world.mercy.blobs.get(cid.raw(b"perhaps there"))
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
