"""Derives from a proven transaction the right to release one data key to one reader."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Access, BreakGlass, Delegation, SignedCommand
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.protocol import command, proof
from services.runtime.refusal import Refused


@dataclass(frozen=True, slots=True)
class ReadGrant:
    """Who may have the data key of which version of a record, by which command, decided when (Unix ms).

    actor       the person whose rights count: the reader, or who delegated to the reader, a device
    action      `read`, `history` or `export`; empty: break-glass, which needs no consent
    delegation  under which the reader, a device, acts; empty: the reader acts in person
    record      the version that the decision found: signed by the endorsers, no service's word
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
    """The grant in a verified transaction. Raises Refused FORBIDDEN.

    The reader is the signer of the command: for a delegated command, the device. A command that was sent
    again has its grant in its first transaction and in no later one.
    """
    if not verified.valid:
        raise Refused.forbidden("the transaction was committed as invalid; send the access again")
    endorsed = members & set(verified.endorsers)
    if 2 * len(endorsed) <= len(members):
        raise Refused.forbidden(
            f"{len(endorsed)} of {len(members)} members endorsed the decision, more than half are needed"
        )
    try:
        found = proof.find_verdict(verified, command_id)
        body = command.body_of(found.command)[1]
    except proof.ProofError as error:
        raise Refused.forbidden(
            "the transaction holds no verdict about that command; name its own tx_id"
        ) from error
    except command.MalformedCommand as error:
        raise Refused.forbidden("the command has no body that this version knows") from error
    if found.verdict.code == code_pb2.CODE_ALREADY_COMMITTED:
        raise Refused.forbidden("the command was sent again; name the transaction of its first verdict")
    if found.verdict.code != code_pb2.CODE_OK:
        raise Refused.forbidden("the decision refused the access")
    if not isinstance(body, Access | BreakGlass):
        raise Refused.forbidden("the command is not an access; only Access and BreakGlass release a key")
    record = found.verdict.record
    if (record.patient, record.record_id, record.version) != (body.patient, body.record_id, body.version):
        raise Refused.forbidden("the decision is about another record; look at the chaincode's version")
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
    """Check that a grant may still be used, and is not dated ahead of its time. Raises Refused FORBIDDEN."""
    age_ms = now_ms - grant.decided_at_ms
    if age_ms > max_age_ms:
        raise Refused.forbidden(
            f"the decision is over {max_age_ms // 1000} s old; ask for access again with a new command"
        )
    if age_ms < -max_skew_ms:
        raise Refused.forbidden("the decision is dated in the future; set the clocks of the members right")


def _actor(signed: SignedCommand) -> str:
    """The signer, or its delegator. The chaincode has checked the delegation."""
    if not signed.HasField("delegation"):
        return signed.signer
    try:
        return Delegation.FromString(signed.delegation.delegation).delegator
    except DecodeError as error:
        raise Refused.forbidden("the command's delegation cannot be read") from error
