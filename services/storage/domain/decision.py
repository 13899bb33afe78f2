"""From a proven transaction to the right to release one data key, and to nobody but its reader."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Access, BreakGlass, Delegation, SignedCommand
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol import command, proof


class NotGranted(Exception):
    """No key follows from the transaction. `reason` is a sentence that a person can act on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ReadGrant:
    """Who may have the data key of which version of a record, by which command, decided when (Unix ms).

    actor    on whose authority: the reader, or who delegated to that device
    action   `read`, `history` or `export`; empty: the glass was broken, and nobody's consent is asked
    delegation  within which the reader, a device, acts; empty when it was asked in person
    record   the version as the decision found it: what the endorsers signed, and no service's word
    """

    reader: str
    actor: str
    action: str
    purpose: str
    patient: str
    record_id: str
    version: int
    command_id: str
    decided_at_ms: int
    delegation: bytes = b""
    record: RecordVersion = field(default_factory=RecordVersion, compare=False, repr=False)


def derive_grant(verified: proof.VerifiedTransaction, command_id: str, members: Set[str]) -> ReadGrant:
    """The grant that stands in a verified transaction. Raises NotGranted.

    The reader is who signed the command: of a delegated command the device. A command that was sent again
    has its grant in its first transaction, never in a later one.
    """
    if not verified.valid:
        raise NotGranted("the transaction was committed as invalid; send the access again")
    endorsed = members & set(verified.endorsers)
    if 2 * len(endorsed) <= len(members):
        raise NotGranted(
            f"{len(endorsed)} of {len(members)} members endorsed the decision, more than half are needed"
        )
    try:
        found = proof.find_verdict(verified, command_id)
        body = command.body_of(found.command)[1]
    except proof.ProofError as error:
        raise NotGranted("the transaction holds no verdict about that command; name its own tx_id") from error
    except command.MalformedCommand as error:
        raise NotGranted("the command has no body that this version knows") from error
    if found.verdict.code == code_pb2.CODE_ALREADY_COMMITTED:
        raise NotGranted("the command was sent again; name the transaction of its first verdict")
    if found.verdict.code != code_pb2.CODE_OK:
        raise NotGranted("the decision refused the access")
    if not isinstance(body, Access | BreakGlass):
        raise NotGranted("the command is not an access; only Access and BreakGlass release a key")
    record = found.verdict.record
    if (record.patient, record.record_id, record.version) != (body.patient, body.record_id, body.version):
        raise NotGranted("the decision is about another record; look at the chaincode's version")
    access = body if isinstance(body, Access) else Access()
    return ReadGrant(
        reader=found.command.signer,
        actor=_actor(found.command),
        action=access.action,
        purpose=access.purpose,
        patient=body.patient,
        record_id=body.record_id,
        version=body.version,
        command_id=command_id,
        decided_at_ms=verified.timestamp_ms,
        delegation=found.command.delegation.delegation,
        record=record,
    )


def check_age(grant: ReadGrant, *, now_ms: int, max_age_ms: int, max_skew_ms: int) -> None:
    """Check that a grant may still be used, and is not dated ahead of its time. Raises NotGranted."""
    age_ms = now_ms - grant.decided_at_ms
    if age_ms > max_age_ms:
        raise NotGranted(
            f"the decision is over {max_age_ms // 1000} s old; ask for access again with a new command"
        )
    if age_ms < -max_skew_ms:
        raise NotGranted("the decision is dated in the future; set the clocks of the members right")


def _actor(signed: SignedCommand) -> str:
    """The signer, or the delegator behind it: the chaincode has parsed the delegation."""
    if not signed.HasField("delegation"):
        return signed.signer
    try:
        return Delegation.FromString(signed.delegation.delegation).delegator
    except DecodeError as error:
        raise NotGranted("the command's delegation cannot be read") from error
