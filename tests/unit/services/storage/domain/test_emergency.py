"""An emergency is signed in person, just now, and says nothing beside what it is."""

from __future__ import annotations

import pytest

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import command, signature
from services.runtime.refusal import Refused
from services.storage.domain import emergency
from tests.support.channel import CHANNEL

SIGNED_MS = 1_800_000_000_000
CLINICIAN = command.KeySigner(signature.new_private_key())


def signed(body: pb.EmergencyAccess | pb.Access | None = None) -> pb.SignedCommand:
    glass = pb.BreakGlass(patient="cb1a", record_id="record", version=3)
    meant = body or pb.EmergencyAccess(glass=glass, newest_epoch=7)
    return CLINICIAN.sign_command(command.make(meant, channel=CHANNEL, now_ms=SIGNED_MS, command_id="one"))


def refusal(one: pb.SignedCommand) -> str:
    with pytest.raises(Refused) as caught:
        emergency.of_command(one)
    return caught.value.reason


def test_an_emergency_is_what_its_clinician_signed() -> None:
    one = signed()
    found = emergency.of_command(one)
    assert (found.key, found.patient, found.record_id, found.version, found.issued_at_ms, found.signed) == (
        ("one", CLINICIAN.address),
        "cb1a",
        "record",
        3,
        SIGNED_MS,
        one,
    )


def test_what_is_none_is_told_why() -> None:
    by_a_device = signed()
    by_a_device.delegation.delegation = b"within"
    assert "in person" in refusal(by_a_device)
    assert "in person" in refusal(signed(pb.Access()))
    assert "not a command" in refusal(pb.SignedCommand(command=b"\xff"))
    ridden = signed()
    ridden.command += b"\x7a\x05Erika"
    assert "serialize it anew" in refusal(ridden)


@pytest.mark.parametrize(
    ("now_ms", "fresh"),
    [
        (SIGNED_MS + 60_000, True),
        (SIGNED_MS + 60_001, False),
        (SIGNED_MS - 5_000, True),
        (SIGNED_MS - 5_001, False),
    ],
)
def test_an_emergency_is_of_now(now_ms: int, fresh: bool) -> None:
    found = emergency.of_command(signed())
    if fresh:
        emergency.check_fresh(found, now_ms=now_ms, max_age_ms=60_000, max_skew_ms=5_000)
        return
    with pytest.raises(Refused):
        emergency.check_fresh(found, now_ms=now_ms, max_age_ms=60_000, max_skew_ms=5_000)
