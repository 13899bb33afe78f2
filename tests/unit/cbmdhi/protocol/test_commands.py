"""A command is worth something only as its signer meant it."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from cbmdhi.protocol import address, categories, command, envelope, hpke, ids, replica, signature
from tests.support.channel import CHANNEL

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "commands.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["commands"], ids=lambda vector: vector["name"])
def test_the_published_vectors_hold(vector: dict[str, object]) -> None:
    spki = bytes.fromhex(str(vector["public_key_spki_hex"]))
    assert address.of_spki(spki) == vector["address"]
    signed = pb.SignedCommand(
        command=bytes.fromhex(str(vector["command_hex"])),
        signature=bytes.fromhex(str(vector["signature_hex"])),
    )
    if vector["valid"]:
        command.verify(signed, spki)
    else:
        with pytest.raises(signature.BadSignature):
            command.verify(signed, spki)


def test_the_commitment_is_over_salt_and_content() -> None:
    expected = VECTORS["commitment"]
    salt, content = bytes.fromhex(expected["salt_hex"]), bytes.fromhex(expected["content_hex"])
    assert envelope.commitment(salt, content).hex() == expected["commitment_hex"]


def test_each_command_of_a_group_names_all_the_others() -> None:
    author, patient = (command.KeySigner(signature.new_private_key()) for _ in range(2))
    record, consent = pb.PutRecord(record_id=ids.uuid7()), pb.Consent(consent_id=ids.uuid7())
    group = command.make_group([(author, record), (patient, consent)], channel=CHANNEL)
    headers = [command.parse(signed)[0] for signed in group.commands]
    digest = command.members_sha256([(headers[0].body, author.address), (headers[1].body, patient.address)])
    assert [header.group.members_sha256 for header in headers] == [digest, digest]
    assert [(header.group.index, header.group.size) for header in headers] == [(0, 2), (1, 2)]
    assert [signed.signer for signed in group.commands] == [author.address, patient.address]


def test_a_group_of_the_same_bodies_by_others_is_another_group() -> None:
    one, other = (command.KeySigner(signature.new_private_key()).address for _ in range(2))
    assert command.members_sha256([(b"a", one), (b"b", one)]) != command.members_sha256(
        [(b"a", one), (b"b", other)]
    )


def test_a_command_names_how_its_channel_began() -> None:
    header = pb.Command.FromString(command.make(pb.Access(), channel=CHANNEL))
    assert (header.channel, header.genesis_sha256) == (CHANNEL.name, CHANNEL.genesis_sha256)


def test_a_command_is_valid_from_now_on_for_five_minutes() -> None:
    before = time.time_ns() // 1_000_000
    header = pb.Command.FromString(command.make(pb.Access(), channel=CHANNEL))

    assert before <= header.issued_at_ms <= time.time_ns() // 1_000_000
    assert header.expires_at_ms == header.issued_at_ms + 300_000


def test_a_lone_command_carries_no_group() -> None:
    signer = command.KeySigner(signature.new_private_key())
    group = command.make_group([(signer, pb.Access())], channel=CHANNEL)
    assert not command.parse(group.commands[0])[0].HasField("group")


def test_a_signature_for_one_purpose_is_worth_nothing_for_another() -> None:
    key = signature.new_private_key()
    made = signature.sign(key, signature.LOGIN, b"message")
    signature.verify(key.public_key(), made, signature.LOGIN, b"message")
    with pytest.raises(signature.BadSignature):
        signature.verify(key.public_key(), made, signature.COMMAND, b"message")


@given(st.binary(max_size=100))
def test_junk_is_no_signature(junk: bytes) -> None:
    with pytest.raises(signature.BadSignature):
        signature.verify(signature.new_private_key().public_key(), junk, signature.COMMAND, b"m")


def test_what_is_sealed_for_one_place_does_not_open_in_another() -> None:
    private, public = hpke.generate()
    sealed = hpke.seal(public, b"key", hpke.DATA_KEY, "reader", "record")
    assert hpke.open(private, sealed, hpke.DATA_KEY, "reader", "record") == b"key"
    for label, binding in (
        (hpke.DATA_KEY, ("readerr", "ecord")),
        (hpke.DATA_KEY, ("reader", "other")),
        (hpke.WRITER_KEY, ("reader", "record")),
    ):
        with pytest.raises(hpke.CannotOpen):
            hpke.open(private, sealed, label, *binding)


def test_ids_ascend_and_are_version_7() -> None:
    made = [ids.uuid7() for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(map(ids.is_uuid7, made))
    assert not ids.is_uuid7("0199C82C-C000-7000-8000-000000000001")


def test_a_replica_receipt_holds_for_its_batch_its_commands_and_its_channel_alone() -> None:
    key = signature.new_private_key()
    spki = signature.spki(key.public_key())
    contents = replica.contents([("a CID", "a command", "its signer", b"s" * 32)])
    made = replica.sign_receipt(key, b"g" * 32, b"r" * 32, contents, "LakesideMSP", 1)
    replica.verify_receipt(made, b"g" * 32, spki)
    for field, other in (
        ("root_sha256", b"o" * 32),
        ("contents_sha256", replica.contents([("a CID", "another command", "its signer", b"s" * 32)])),
        ("contents_sha256", replica.contents([("a CID", "a command", "its signer", b"o" * 32)])),
        ("msp", "MercyMSP"),
        ("held_at_ms", 2),
    ):
        changed = ReplicaReceipt()
        changed.CopyFrom(made)
        setattr(changed, field, other)
        with pytest.raises(signature.BadSignature):
            replica.verify_receipt(changed, b"g" * 32, spki)
    with pytest.raises(signature.BadSignature):
        replica.verify_receipt(made, b"h" * 32, spki)


def test_a_receipt_says_for_which_contents_and_since_when() -> None:
    one, other = ("a CID", "a command", "its signer", b"s" * 32), ("b CID", "b command", "hers", b"t" * 32)
    contents = replica.contents([one, other])

    assert contents == replica.contents([one]) + replica.contents([other])
    made = replica.sign_receipt(
        signature.new_private_key(), b"g" * 32, b"r" * 32, contents, "LakesideMSP", 1_800_000_000_000
    )
    assert (made.root_sha256, made.contents_sha256, made.msp, made.held_at_ms) == (
        b"r" * 32,
        contents,
        "LakesideMSP",
        1_800_000_000_000,
    )


def test_each_resource_type_has_one_category() -> None:
    listed = [
        resource for category in categories.CATEGORIES for resource in categories.resources_of(category)
    ]
    assert len(listed) == len(set(listed))
    assert categories.of_resource("Observation") == "observations"
    assert "Observation" in categories.resources_of("observations")
    assert categories.resources_of("other") == categories.resources_of("no such category") == ()
    assert categories.of_resource("NoSuchThing") == "other"


def test_an_emergency_has_the_published_id() -> None:
    expected = VECTORS["emergency"]
    raw = bytes.fromhex(expected["command_hex"])
    header = pb.Command.FromString(raw)
    assert header.command_id == expected["command_id"]
    assert ids.emergency_id(expected["signer"], raw[76:]) == expected["command_id"]


def test_an_emergencys_id_follows_from_who_signs_it_and_all_that_it_says() -> None:
    alice, bob = (command.KeySigner(signature.new_private_key()) for _ in range(2))

    def made(by: command.KeySigner = alice, epoch: int = 7, lifetime_seconds: int = 60) -> str:
        raw = command.make_emergency(
            pb.EmergencyAccess(newest_epoch=epoch),
            by.address,
            channel=CHANNEL,
            lifetime_seconds=lifetime_seconds,
            now_ms=1,
        )
        header = pb.Command.FromString(raw)
        # The id stands first: what is behind it is what it follows from.
        assert raw[2:76].decode() == header.command_id
        assert header.command_id == ids.emergency_id(by.address, raw[76:])
        return header.command_id

    ids_made = [made(), made(by=bob), made(epoch=8), made(lifetime_seconds=61)]
    assert len(set(ids_made)) == 4
    assert made() == ids_made[0]
    assert all(map(ids.is_command_id, [*ids_made, ids.uuid7()]))
    assert not any(map(ids.is_uuid7, ids_made))
    for other in (ids_made[0].upper(), ids_made[0][:-1], ids_made[0] + "0", ids_made[0][10:], "Erika"):
        assert not ids.is_command_id(other)


def test_a_transaction_of_records_may_be_longer_than_a_group_of_any_kind() -> None:
    author = command.KeySigner(signature.new_private_key())
    record, consent = pb.PutRecord(record_id=ids.uuid7()), pb.Consent(consent_id=ids.uuid7())

    assert len(command.make_group([(author, record)] * 128, channel=CHANNEL).commands) == 128
    assert len(command.make_group([(author, consent)] * 16, channel=CHANNEL).commands) == 16
    for too_many in ([record] * 129, [consent] * 17, [record] * 16 + [consent], []):
        with pytest.raises(ValueError, match="a group has 1 to 16"):
            command.make_group([(author, body) for body in too_many], channel=CHANNEL)


def test_the_commands_of_a_group_have_one_id_and_the_times_that_were_asked_for() -> None:
    author = command.KeySigner(signature.new_private_key())
    meant = [(author, pb.PutRecord(record_id=ids.uuid7())) for _ in range(2)]

    def headers(**times: int) -> list[pb.Command]:
        group = command.make_group(meant, channel=CHANNEL, **times)
        return [command.parse(signed)[0] for signed in group.commands]

    one, again = headers(now_ms=1_000_000, lifetime_seconds=7), headers(now_ms=1_000_000)
    assert {(header.issued_at_ms, header.expires_at_ms) for header in one} == {(1_000_000, 1_007_000)}
    assert {header.expires_at_ms for header in again} == {1_300_000}
    (group_id,) = {header.group.group_id for header in one}
    assert ids.is_uuid7(group_id)
    assert group_id != again[0].group.group_id
    assert len({header.command_id for header in one + again}) == 4


def test_a_device_in_a_group_signs_within_its_delegation() -> None:
    delegation = pb.SignedDelegation(delegation=b"what was signed at login", signature=b"by whom")
    device = command.KeySigner(signature.new_private_key(), delegation)
    record = pb.PutRecord(record_id=ids.uuid7())

    for signed in command.make_group([(device, record)] * 2, channel=CHANNEL).commands:
        header, _ = command.parse(signed)
        assert header.delegation_sha256 == hashlib.sha256(delegation.delegation).digest()
        assert signed.delegation == delegation


def test_a_key_signs_what_is_no_command_under_that_things_own_label() -> None:
    key = signature.new_private_key()
    signed = command.KeySigner(key).sign(signature.LOGIN, b"a ", b"challenge")

    signature.verify(key.public_key(), signed, signature.LOGIN, b"a challenge")
    with pytest.raises(signature.BadSignature):
        signature.verify(key.public_key(), signed, signature.COMMAND, b"a challenge")
