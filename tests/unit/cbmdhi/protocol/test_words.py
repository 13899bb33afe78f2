"""What the texts of a signed message may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from cbmdhi.command.v1.command_pb2 import (
    Access,
    BreakGlass,
    CommandBody,
    Consent,
    Delegation,
    Grantee,
    Provision,
    RegisterIdentity,
    ReviewRegistration,
    SealedReason,
    SuspendIdentity,
)
from cbmdhi.protocol import words
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
    for said in ("Mustermann", "4711", "HIV", "drunk", "House", "boss", "look"):
        assert said not in str(caught.value)


def test_what_is_said_in_the_words_of_the_mesh_or_not_at_all_passes() -> None:
    words.check(CommandBody(access=access()), "body", MEMBERS)
    words.check(CommandBody(access=Access()), "body", MEMBERS)
    words.check(
        Delegation(delegator=ADDRESS, patients=[ADDRESS], actions=["write"], channel="any"),
        "delegation",
        MEMBERS,
    )
