"""The command with which a clinician has a record opened while no majority of members answers."""

from __future__ import annotations

from dataclasses import dataclass

from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.protocol import command, words
from services.runtime.refusal import Refused


@dataclass(frozen=True, slots=True)
class Emergency:
    """An EmergencyAccess as its signer states it. The own peer's chaincode decides on it.

    issued_at_ms  Unix ms, by the signer's clock
    """

    command_id: str
    clinician: str
    patient: str
    record_id: str
    version: int
    issued_at_ms: int
    signed: SignedCommand

    @property
    def key(self) -> tuple[str, str]:
        """Its identity: command id and signer."""
        return self.command_id, self.clinician


def of_command(signed: SignedCommand) -> Emergency:
    """The emergency that a command states. Raises Refused INVALID."""
    try:
        header, body = command.parse(signed)
    except command.MalformedCommand as error:
        raise _refused("not a command with a body") from error
    if not body.HasField("emergency_access") or signed.HasField("delegation"):
        raise _refused("not an EmergencyAccess, signed in person")
    try:
        # The command will be recorded on the channel unchanged.
        words.check_command(signed, header, body, "command", "body")
    except words.NotAWord as error:
        raise _refused(str(error)) from error
    glass = body.emergency_access.glass
    return Emergency(
        command_id=header.command_id,
        clinician=signed.signer,
        patient=glass.patient,
        record_id=glass.record_id,
        version=glass.version,
        issued_at_ms=header.issued_at_ms,
        signed=signed,
    )


def check_fresh(asked: Emergency, *, now_ms: int, max_age_ms: int, max_skew_ms: int) -> None:
    """Check that it was signed just now, so that an old one opens nothing. Raises Refused INVALID."""
    age_ms = now_ms - asked.issued_at_ms
    if age_ms > max_age_ms:
        raise _refused(f"it was signed over {max_age_ms // 1000} s ago; sign it anew")
    if age_ms < -max_skew_ms:
        raise _refused("it is dated in the future; set the clocks right and sign it anew")


def _refused(reason: str) -> Refused:
    return Refused.invalid(reason, "command")
