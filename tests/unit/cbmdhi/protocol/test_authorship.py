"""Who wrote it: both signatures are checked, the device's and that of the person behind it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import authorship, command, signature
from cbmdhi.protocol.authorship import Authorship, NotMeant
from cbmdhi.protocol.ids import uuid7
from tests.support.channel import CHANNEL, REUSED_NAME

PERSON, DEVICE, OTHER = (command.KeySigner(signature.new_private_key()) for _ in range(3))
KEYS = {signer.address: signature.spki(signer.private_key.public_key()) for signer in (PERSON, DEVICE, OTHER)}
BODY = pb.PutRecord(record_id=uuid7(), version=1)


def delegation(
    by: command.KeySigner = PERSON, to: command.KeySigner = DEVICE, **changes: object
) -> pb.Delegation:
    now = time.time_ns() // 1_000_000
    fields = {
        "delegation_id": uuid7(),
        "channel": CHANNEL.name,
        "genesis_sha256": CHANNEL.genesis_sha256,
        "delegator": by.address,
        "delegate": to.address,
        "actions": ["write"],
        "purposes": ["TREAT"],
        "issued_at_ms": now,
        "expires_at_ms": now + 60_000,
    }
    return pb.Delegation(**{**fields, **changes})  # type: ignore[arg-type]


def within(given: pb.Delegation, *, signed_by: command.KeySigner = PERSON) -> pb.SignedCommand:
    raw = given.SerializeToString(deterministic=True)
    signed = pb.SignedDelegation(
        delegation=raw, signature=signature.sign(signed_by.private_key, signature.DELEGATION, raw)
    )
    acting = command.KeySigner(DEVICE.private_key, signed)
    return acting.sign_command(command.make(BODY, channel=CHANNEL, delegation=signed))


def in_person() -> pb.SignedCommand:
    return PERSON.sign_command(command.make(BODY, channel=CHANNEL))


def test_the_author_is_the_person_behind_the_device() -> None:
    who = authorship.check(within(delegation()), KEYS)
    assert who == Authorship(PERSON.address, DEVICE.address)
    assert not who.in_person


def test_who_signs_in_person_is_the_author() -> None:
    who = authorship.check(in_person(), KEYS)
    assert who == Authorship(PERSON.address, PERSON.address)
    assert who.in_person


def forged_delegation() -> pb.SignedCommand:
    return within(delegation(), signed_by=OTHER)


def another_persons_delegation_beside_it() -> pb.SignedCommand:
    signed = within(delegation())
    signed.delegation.CopyFrom(within(delegation(by=OTHER), signed_by=OTHER).delegation)
    return signed


def delegation_taken_away() -> pb.SignedCommand:
    signed = within(delegation())
    signed.ClearField("delegation")
    return signed


def delegation_added() -> pb.SignedCommand:
    signed = in_person()
    signed.delegation.CopyFrom(within(delegation()).delegation)
    return signed


def to_another_device() -> pb.SignedCommand:
    return within(delegation(to=OTHER))


def on_another_channel() -> pb.SignedCommand:
    return within(delegation(genesis_sha256=REUSED_NAME.genesis_sha256))


def changed_command() -> pb.SignedCommand:
    signed = within(delegation())
    signed.command += b"\x00"
    return signed


def unreadable_delegation() -> pb.SignedCommand:
    signed = within(delegation())
    signed.delegation.delegation = b"\xff"
    return signed


@pytest.mark.parametrize(
    "made",
    [
        forged_delegation,
        another_persons_delegation_beside_it,
        delegation_taken_away,
        delegation_added,
        to_another_device,
        on_another_channel,
        changed_command,
        unreadable_delegation,
    ],
)
def test_nobody_is_made_an_author_who_did_not_sign(made: Callable[[], pb.SignedCommand]) -> None:
    with pytest.raises(NotMeant):
        authorship.check(made(), KEYS)


def test_a_key_of_another_address_is_no_key() -> None:
    for wrong in ({}, {**KEYS, PERSON.address: KEYS[OTHER.address]}):
        with pytest.raises(NotMeant):
            authorship.check(within(delegation()), wrong)


def test_a_delegation_that_was_checked_is_not_checked_again_and_vouches_for_no_other() -> None:
    checked = set[bytes]()
    good = within(delegation())
    device_alone = {DEVICE.address: KEYS[DEVICE.address]}
    authorship.check(good, KEYS, checked)
    (known,) = checked

    assert authorship.check(good, device_alone, checked) == Authorship(PERSON.address, DEVICE.address)
    with pytest.raises(NotMeant):
        authorship.check(within(delegation()), device_alone, checked)
    with pytest.raises(NotMeant):
        authorship.check(forged_delegation(), KEYS, checked)
    assert checked == {known}
    authorship.check(within(delegation(by=OTHER), signed_by=OTHER), KEYS, checked)
    assert len(checked) == 2
