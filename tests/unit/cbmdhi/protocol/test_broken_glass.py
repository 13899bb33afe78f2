"""The reason of a broken glass: for the reviewers alone, in the clinician's own words, at one length."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import broken_glass, command, hpke, signature
from cbmdhi.protocol.ids import uuid7
from tests.support.channel import CHANNEL

PATIENT = "cb1" + "p" * 32
REASON = "unconscious"


class Reviewer:
    """Somebody with an HPKE key."""

    def __init__(self, name: str) -> None:
        self.address = f"cb1{name:a<32}"
        self.private, public = hpke.generate()
        self.document = IdentityDocument(address=self.address, hpke_public_key=public)


class Clinician:
    """Breaks the glass of a record."""

    def __init__(self) -> None:
        self.signer = command.KeySigner(signature.new_private_key())
        self.spki = signature.spki(self.signer.private_key.public_key())

    def body(self, command_id: str, *reviewers: Reviewer, reason: str = REASON) -> pb.BreakGlass:
        body = pb.BreakGlass(patient=PATIENT, record_id=uuid7(), version=3)
        broken_glass.seal(body, command_id, self.signer.address, reason, [one.document for one in reviewers])
        return body

    def emergency(self, body: pb.EmergencyAccess) -> pb.SignedCommand:
        return self.signer.sign_command(command.make_emergency(body, self.signer.address, channel=CHANNEL))

    def sign(self, body: pb.BreakGlass, command_id: str) -> pb.SignedCommand:
        return self.signer.sign_command(command.make(body, channel=CHANNEL, command_id=command_id))

    def breaks(self, *reviewers: Reviewer, reason: str = REASON) -> pb.SignedCommand:
        command_id = uuid7()
        return self.sign(self.body(command_id, *reviewers, reason=reason), command_id)


def opened(reviewer: Reviewer, signed: pb.SignedCommand, clinician: Clinician) -> broken_glass.BrokenGlass:
    return broken_glass.open_for(
        reviewer.address, reviewer.private, signed, clinician.signer.address, clinician.spki
    )


def test_a_reviewer_opens_the_reason_of_what_was_opened_without_a_majority() -> None:
    clinician, one = Clinician(), Reviewer("one")
    glass = clinician.body(broken_glass.of_standstill(7), one)
    signed = clinician.emergency(pb.EmergencyAccess(glass=glass, newest_epoch=7))
    assert broken_glass.reviewers(signed) == {one.address}
    assert opened(one, signed, clinician).reason == REASON
    # Of another standstill it is not the reason.
    with pytest.raises(broken_glass.NoReason, match="does not open"):
        opened(one, clinician.emergency(pb.EmergencyAccess(glass=glass, newest_epoch=8)), clinician)


def test_each_reviewer_opens_the_reason_and_what_it_is_for() -> None:
    clinician, one, two = Clinician(), Reviewer("one"), Reviewer("two")
    signed = clinician.breaks(one, two)
    record_id = command.parse(signed)[1].break_glass.record_id
    assert broken_glass.reviewers(signed) == {one.address, two.address}
    for reviewer in (one, two):
        assert opened(reviewer, signed, clinician) == broken_glass.BrokenGlass(
            clinician.signer.address, PATIENT, record_id, 3, REASON
        )
    with pytest.raises(broken_glass.NoReason, match="other reviewers"):
        opened(Reviewer("three"), signed, clinician)


def test_neither_bytes_nor_length_tell_the_reason() -> None:
    clinician, one = Clinician(), Reviewer("one")
    sizes: set[int] = set()
    for reason in broken_glass.REASONS:
        signed = clinician.breaks(one, reason=reason)
        assert reason.encode() not in signed.command
        sizes.add(len(command.parse(signed)[1].break_glass.sealed_reasons[0].sealed))
    assert sizes == {1200}
    with pytest.raises(ValueError, match="one of"):
        clinician.breaks(one, reason="the patient had a stroke")


def of_another_command(clinician: Clinician, one: Reviewer) -> pb.SignedCommand:
    return clinician.sign(clinician.body(uuid7(), one), uuid7())


def of_another_record(clinician: Clinician, one: Reviewer) -> pb.SignedCommand:
    command_id = uuid7()
    body = clinician.body(command_id, one)
    body.record_id = uuid7()
    return clinician.sign(body, command_id)


def of_another_clinician(clinician: Clinician, one: Reviewer) -> pb.SignedCommand:
    return Clinician().breaks(one)


def changed(clinician: Clinician, one: Reviewer) -> pb.SignedCommand:
    signed = clinician.breaks(one)
    signed.command += b"\x00"
    return signed


def another_kind(clinician: Clinician, one: Reviewer) -> pb.SignedCommand:
    body = pb.Access(patient=PATIENT, record_id=uuid7(), version=1)
    return clinician.signer.sign_command(command.make(body, channel=CHANNEL))


@pytest.mark.parametrize(
    "made", [of_another_command, of_another_record, of_another_clinician, changed, another_kind]
)
def test_a_reason_that_is_not_of_this_command_does_not_open(
    made: Callable[[Clinician, Reviewer], pb.SignedCommand],
) -> None:
    clinician, one = Clinician(), Reviewer("one")
    with pytest.raises(broken_glass.NoReason):
        opened(one, made(clinician, one), clinician)
