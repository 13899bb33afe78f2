"""What the texts of a signed message may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from cbmdhi.command.v1.command_pb2 import (
    Access,
    BreakGlass,
    Command,
    CommandBody,
    Consent,
    Delegation,
    Grantee,
    GroupMembership,
    Provision,
    RegisterIdentity,
    ReviewRegistration,
    SealedReason,
    SignedCommand,
    SignedDelegation,
    SuspendIdentity,
)
from cbmdhi.protocol import cid, words
from cbmdhi.protocol.ids import uuid7

MEMBERS = frozenset({"MercyMSP"})
DR_HOUSE = Grantee(msp="DrHouse")
ADDRESS = "cb1" + "a" * 32


def texts(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> Iterator[FieldDescriptor]:
    if descriptor.full_name in seen:
        return
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield field
        elif field.message_type is not None:
            yield from texts(field.message_type, seen | {descriptor.full_name})


def test_every_text_that_can_be_signed_has_its_rule() -> None:
    for descriptor in (CommandBody.DESCRIPTOR, Delegation.DESCRIPTOR):
        assert {field.name for field in texts(descriptor)} <= words.RULES.keys()


def access(**fields: str) -> Access:
    said = {"patient": ADDRESS, "record_id": uuid7(), "purpose": "TREAT", "action": "read", **fields}
    return Access(version=1, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (CommandBody(access=access(patient="Erika Mustermann")), "body.access.patient"),
        (CommandBody(access=access(record_id="MRN 4711")), "body.access.record_id"),
        (CommandBody(access=access(purpose="HIV therapy")), "body.access.purpose"),
        (CommandBody(access=access(action="have a look")), "body.access.action"),
        (
            CommandBody(suspend_identity=SuspendIdentity(address=ADDRESS, reason_code="drunk")),
            "body.suspend_identity.reason_code",
        ),
        (
            CommandBody(
                review_registration=ReviewRegistration(address=ADDRESS, evidence_cid="passport 4711")
            ),
            "body.review_registration.evidence_cid",
        ),
        (
            CommandBody(
                consent=Consent(patient=ADDRESS, provisions=[Provision(), Provision(categories=["HIV"])])
            ),
            "body.consent.provisions[1].categories[0]",
        ),
        (
            CommandBody(consent=Consent(provisions=[Provision(grantees=[Grantee(msp="Dr. House")])])),
            "body.consent.provisions[0].grantees[0].msp",
        ),
        (
            CommandBody(
                consent=Consent(
                    provisions=[Provision(grantees=[Grantee(msp="MercyMSP"), Grantee(msp="DrHouse")])]
                )
            ),
            "body.consent.provisions[0].grantees[1].msp",
        ),
        (
            CommandBody(break_glass=BreakGlass(sealed_reasons=[SealedReason(reviewer="my boss")])),
            "body.break_glass.sealed_reasons[0].reviewer",
        ),
        (
            CommandBody(break_glass=BreakGlass(sealed_reasons=[SealedReason(sealed=b"HIV, unconscious")])),
            "body.break_glass.sealed_reasons[0].sealed",
        ),
        (
            CommandBody(register_identity=RegisterIdentity(hpke_public_key=b"Erika Mustermann")),
            "body.register_identity.hpke_public_key",
        ),
    ],
)
def test_what_is_said_in_ones_own_words_is_found_and_not_repeated(body: CommandBody, path: str) -> None:
    with pytest.raises(words.NotAWord) as caught:
        words.check(body, "body", MEMBERS)
    assert caught.value.path == path
    assert str(caught.value).startswith("not ")
    for said in ("Mustermann", "4711", "HIV", "drunk", "House", "boss", "look"):
        assert said not in str(caught.value)


def test_what_is_said_in_the_words_of_the_mesh_or_not_at_all_passes() -> None:
    words.check(CommandBody(access=access()), "body", MEMBERS)
    words.check(CommandBody(access=Access()), "body", MEMBERS)
    passport = ReviewRegistration(evidence_cid=cid.raw(b"sealed"))
    words.check(CommandBody(review_registration=passport), "body", MEMBERS)
    words.check(
        Delegation(delegator=ADDRESS, patients=[ADDRESS], actions=["write"], channel="any"),
        "delegation",
        MEMBERS,
    )


RIDER = Access(patient="Erika Mustermann").SerializeToString().replace(b"\x0a", b"\x7a", 1)
"""A name as the field 15, which no message of these has."""


def in_person() -> tuple[SignedCommand, Command, CommandBody]:
    body = CommandBody(access=access())
    header = Command(command_id=uuid7(), body=body.SerializeToString())
    return SignedCommand(command=header.SerializeToString(), signature=b"sig"), header, body


def test_a_name_that_rides_along_in_any_part_of_a_command_is_found() -> None:
    signed, header, body = in_person()
    words.check_command(signed, header, body, "command", "body")

    ridden = SignedCommand.FromString(signed.SerializeToString() + RIDER)
    with pytest.raises(words.NotAWord, match="serialize it anew") as beside:
        words.check_command(ridden, header, body, "command", "body")
    ridden = SignedCommand(command=signed.command + RIDER)
    with pytest.raises(words.NotAWord) as around:
        words.check_command(ridden, Command.FromString(ridden.command), body, "command", "body")
    ridden_header = Command(body=header.body + RIDER)
    ridden = SignedCommand(command=ridden_header.SerializeToString())
    ridden_body = CommandBody.FromString(ridden_header.body)
    with pytest.raises(words.NotAWord) as within:
        words.check_command(ridden, ridden_header, ridden_body, "command", "body")

    assert [caught.value.path for caught in (beside, around, within)] == ["command", "command", "body"]


def test_of_a_field_that_is_said_twice_the_first_is_found_too() -> None:
    last = Delegation(channel="mesh")
    twice = Delegation(channel="Erika Mustermann").SerializeToString() + last.SerializeToString()
    assert Delegation.FromString(twice) == last

    words.check_exact(last.SerializeToString(), last, "delegation")
    with pytest.raises(words.NotAWord) as caught:
        words.check_exact(twice, Delegation.FromString(twice), "delegation")
    assert caught.value.path == "delegation"


ROOM = b"\x08\xff\xff\xff\xff\x0f"
"""The effect -1 of a provision in 5 bytes, for which any encoder needs 10."""


@pytest.mark.parametrize(
    "rider",
    [RIDER, Consent(patient="Erika Mustermann").SerializeToString()],
    ids=["in a field that nobody knows", "in a field that is there again"],
)
def test_what_is_encoded_in_few_bytes_makes_no_room_for_a_name(rider: bytes) -> None:
    """What was seen: the bytes were as many as the message needs, and so they passed."""
    last = Consent(patient=ADDRESS).SerializeToString()
    field = Consent.DESCRIPTOR.fields_by_name["provisions"].number << 3 | 2
    provisions = (bytes((field, len(ROOM))) + ROOM) * 8
    # As long as the message would be without it: eight provisions are 40 bytes longer.
    name = rider[2:].ljust(40 - 2, b".")
    raw = rider[:1] + bytes((len(name),)) + name + last + provisions
    body = Consent.FromString(raw)
    known = Consent.FromString(raw)
    known.DiscardUnknownFields()
    assert len(raw) == known.ByteSize()
    with pytest.raises(words.NotAWord) as caught:
        words.check_exact(raw, body, "consent")
    assert caught.value.path == "consent"


def test_fields_may_come_in_whichever_order() -> None:
    header = Command(channel="mesh", command_id=uuid7())
    first, second = Command(command_id=header.command_id), Command(channel="mesh")
    for raw in (
        first.SerializeToString() + second.SerializeToString(),
        second.SerializeToString() + first.SerializeToString(),
    ):
        words.check_exact(raw, Command.FromString(raw), "command")


def test_who_is_asked_for_one_command_in_person_gets_no_other() -> None:
    signed, header, _ = in_person()
    words.check_frame(signed, header)
    by_a_device = SignedCommand(command=signed.command, delegation=SignedDelegation(delegation=b"d"))
    others = [
        (signed, Command(command_id="Erika Mustermann"), "command_id", "UUIDv7"),
        (signed, Command(command_id=uuid7(), group=GroupMembership(size=2)), "group", "the whole group"),
        (by_a_device, header, "delegation", "in person"),
        (signed, Command(command_id=uuid7(), delegation_sha256=b"d" * 32), "delegation", "in person"),
    ]

    for wrapped, frame, path, reason in others:
        with pytest.raises(words.NotAWord, match=reason) as caught:
            words.check_frame(wrapped, frame)
        assert caught.value.path == path
