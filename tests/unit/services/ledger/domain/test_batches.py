"""Whose turn it is, who has to endorse, and how much fits into a batch."""

from __future__ import annotations

from cbmdhi.command.v1 import command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol.state_keys import sealed_record_key_name, sealed_writer_key_name
from services.ledger.domain import batches
from services.ledger.domain.endorsers import Holders


def group(*signed: command_pb2.SignedCommand, contents: tuple[bytes, ...] = ()) -> ledger_pb2.SealedGroup:
    made = ledger_pb2.SealedGroup()
    made.item.group.commands.extend(signed)
    for root in contents:
        made.item.contents.add(root_sha256=root)
    return made


def by_a_device(delegation: bytes) -> command_pb2.SignedCommand:
    within = command_pb2.SignedDelegation(delegation=delegation)
    return command_pb2.SignedCommand(signer="device", delegation=within)


def test_it_is_the_turn_of_the_person_behind_the_first_command() -> None:
    in_person = command_pb2.SignedCommand(signer="person")
    delegation = command_pb2.Delegation(delegator="delegator").SerializeToString()

    assert batches.person_of(group(in_person, by_a_device(delegation))) == "person"
    assert batches.person_of(group(by_a_device(delegation), in_person)) == "delegator"
    assert batches.person_of(group(by_a_device(b"\xff"))) == "device"


def test_a_batch_of_the_smallest_commands_has_no_more_than_the_chaincode_takes() -> None:
    of_one = batches.envelope_bytes(0, 1)
    assert of_one * batches.MAX_COMMANDS >= batches.MAX_BYTES
    assert (of_one - 1) * batches.MAX_COMMANDS < batches.MAX_BYTES
    assert batches.envelope_bytes(0, 3) == 3 * of_one
    assert isinstance(of_one, int)


def test_a_group_brings_the_seals_that_its_contents_name() -> None:
    seals = {b"one": b"1", b"two": b"2"}
    assert batches.seals_of(group(contents=(b"one", b"none")), seals) == {b"one": b"1"}
    assert batches.seals_of(group(), seals) == {}


def test_who_holds_a_patients_key_must_endorse_and_who_holds_a_writer_key_should() -> None:
    keys = [
        state_pb2.SealedKey(msp="MercyMSP", key=sealed_record_key_name("cb1a")),
        state_pb2.SealedKey(msp="MercyMSP", key=sealed_writer_key_name("NorthgateMSP", "one")),
        state_pb2.SealedKey(msp="LakesideMSP", key=sealed_writer_key_name("NorthgateMSP", "one")),
    ]
    assert batches.holders(keys) == Holders(frozenset({"MercyMSP"}), frozenset({"LakesideMSP"}))


def test_what_cannot_be_read_has_no_id() -> None:
    header = command_pb2.Command(command_id="one").SerializeToString()
    assert batches.command_id_of(command_pb2.SignedCommand(command=header)) == "one"
    assert batches.command_id_of(command_pb2.SignedCommand(command=b"\xff")) == ""
