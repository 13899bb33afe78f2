"""Why a glass was broken: for its reviewers' eyes, in what the clinician signed.

Beside a patient's address on the channel, *unconscious* is health data. So the reason is sealed to each
reviewer, at one length whatever it says, and bound to the command, so that it cannot be moved to another.
The id of an EmergencyAccess follows from all that it says, the sealed reason too: this is bound to its
standstill instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import address, command, hpke, signature

REASONS = ("unconscious", "life-threatening", "public-safety")
MOST_REVIEWERS = 16
_REASON_BYTES = 64


class NoReason(Exception):
    """The reason cannot be had: sealed to others, not the clinician's, or not one of the closed list."""


@dataclass(frozen=True)
class BrokenGlass:
    """What was opened in an emergency, and why, as the clinician signed it."""

    clinician: str
    patient: str
    record_id: str
    version: int
    reason: str


def seal(
    body: pb.BreakGlass, bound_to: str, clinician: str, reason: str, reviewers: Sequence[IdentityDocument]
) -> None:
    """Add the reason to a body, sealed to the registered key of each reviewer; they must be checked before.

    bound_to  the command's id; of an EmergencyAccess what `of_standstill` gives

    Raises ValueError when it is not one of REASONS.
    """
    if reason not in REASONS:
        raise ValueError(f"the reason is one of {', '.join(REASONS)}")
    filled = reason.encode().ljust(_REASON_BYTES, b"\x00")
    for reviewer in reviewers:
        binding = _binding(body, bound_to, clinician, reviewer.address)
        sealed = hpke.seal(reviewer.hpke_public_key, filled, hpke.BREAK_GLASS_REASON, *binding)
        body.sealed_reasons.add(reviewer=reviewer.address, sealed=sealed)


def of_standstill(newest_epoch: int) -> str:
    """What the reason of an EmergencyAccess is bound to in the place of a command id."""
    return f"epoch/{newest_epoch}"


def of_body(body: pb.CommandBody) -> pb.BreakGlass:
    """The glass that a BreakGlass or EmergencyAccess breaks; an empty one for another command."""
    return body.emergency_access.glass if body.HasField("emergency_access") else body.break_glass


def reviewers(signed: pb.SignedCommand) -> frozenset[str]:
    """Addresses to whom the reason of a BreakGlass is sealed; none when it is another command."""
    try:
        _, body = command.parse(signed)
    except command.MalformedCommand:
        return frozenset()
    return frozenset(one.reviewer for one in of_body(body).sealed_reasons)


def open_for(
    reviewer: str, private: bytes, signed: pb.SignedCommand, clinician: str, spki_der: bytes
) -> BrokenGlass:
    """Open it as a reviewer, who believes the clinician's signature and nobody else. Raises NoReason.

    spki_der  the clinician's signing key, whoever gave it: the address is its hash
    """
    try:
        if not clinician == signed.signer == address.of_spki(spki_der):
            raise NoReason("it is another clinician's")
        command.verify(signed, spki_der)
        header, wrapped = command.parse(signed)
    except (signature.BadSignature, command.MalformedCommand, ValueError) as error:
        raise NoReason("it is not what the clinician signed") from error
    body = of_body(wrapped)
    mine = next((one.sealed for one in body.sealed_reasons if one.reviewer == reviewer), None)
    if mine is None:
        raise NoReason("the reason was sealed to other reviewers")
    in_emergency = wrapped.HasField("emergency_access")
    bound_to = of_standstill(wrapped.emergency_access.newest_epoch) if in_emergency else header.command_id
    binding = _binding(body, bound_to, clinician, reviewer)
    try:
        reason = hpke.open(private, mine, hpke.BREAK_GLASS_REASON, *binding).rstrip(b"\x00").decode("ascii")
    except (hpke.CannotOpen, UnicodeDecodeError) as error:
        raise NoReason("what the clinician sealed does not open: ask them") from error
    if reason not in REASONS:
        raise NoReason("what the clinician sealed is no reason of the closed list: ask them")
    return BrokenGlass(clinician, body.patient, body.record_id, body.version, reason)


def _binding(body: pb.BreakGlass, bound_to: str, clinician: str, reviewer: str) -> tuple[str, ...]:
    return (reviewer, clinician, body.patient, body.record_id, str(body.version), bound_to)
