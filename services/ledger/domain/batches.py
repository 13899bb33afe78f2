"""Which submissions may share a batch, and how large its transaction becomes.

One conflict invalidates a whole Fabric transaction. So commands that change documents that others read
(consents, identities, policy, a clinician's quota of break-glass) are in other batches than records and
accesses, which only add keys of their own.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import Enum
from types import MappingProxyType

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command as commands
from cbmdhi.protocol.state_keys import is_sealed_record_key
from services.ledger.domain.endorsers import Holders
from services.ledger.domain.wire import repeated_field

MAX_GROUPS = 400
"""Most groups in a batch. More gain nothing (measured)."""

MAX_BYTES = 6 << 20
"""Estimated bytes of a batch's envelope: the orderer refuses 10 MiB, and only after full endorsement."""

MAX_COMMANDS = 4_000
"""Most commands in all groups of a batch: the limit of the chaincode."""

_CHANGES_DOCUMENTS = frozenset(
    {
        "register_identity",
        "review_registration",
        "suspend_identity",
        "consent",
        "revoke_consent",
        "break_glass",
        "review_break_glass",
        "emergency_access",
        "set_policy",
        "revoke_delegation",
    }
)

# A record of 380 bytes of command makes 1.3 kB of envelope: argument, answer, state and audit entry.
_ENVELOPE_BYTES_FOR_COMMAND = 600
_ENVELOPE_BYTES_FOR_BYTE = 2

Seals = Mapping[bytes, bytes]
"""Serialized SealedBatches by their `root_sha256`."""
NO_SEALS: Seals = MappingProxyType({})


class Lane(Enum):
    """A batch holds groups of one lane only."""

    DOCUMENTS = "documents"
    RECORDS = "records"


def lane_of(submission: ledger_pb2.SealedGroup) -> Lane:
    """The lane of a group: that of documents if one of its commands changes a document."""
    for signed in submission.item.group.commands:
        if body_name(signed) in _CHANGES_DOCUMENTS:
            return Lane.DOCUMENTS
    return Lane.RECORDS


def person_of(submission: ledger_pb2.SealedGroup) -> str:
    """The address of the person behind the first command: its signer, or the delegator of a device.

    The signature is not checked here: the address only decides whose turn it is among those of one gateway.
    """
    signed = submission.item.group.commands[0]
    if signed.HasField("delegation"):
        with suppress(DecodeError):
            return command_pb2.Delegation.FromString(signed.delegation.delegation).delegator
    return signed.signer


def envelope_bytes(submission_bytes: int, commands: int) -> int:
    """Estimated bytes that a submission adds to the transaction and its transient map.

    At least so much that no batch has more than MAX_COMMANDS.
    """
    estimate = submission_bytes * _ENVELOPE_BYTES_FOR_BYTE + commands * _ENVELOPE_BYTES_FOR_COMMAND
    return max(estimate, commands * -(-MAX_BYTES // MAX_COMMANDS))


def seals_of(submission: ledger_pb2.SealedGroup, seals: Seals) -> Seals:
    """The seals that the submission's contents name."""
    roots = {content.root_sha256 for content in submission.item.contents}
    return {root: seals[root] for root in roots if root in seals}


def batch_bytes(submissions: Sequence[ledger_pb2.SealedGroup], seals: Seals = NO_SEALS) -> bytes:
    """The argument of `process`: a serialized Batch, with each seal that its contents name once."""
    used: dict[bytes, bytes] = {}
    for submission in submissions:
        for content in submission.item.contents:
            if content.root_sha256 in seals:
                used.setdefault(content.root_sha256, seals[content.root_sha256])
    items = (submission.item.SerializeToString() for submission in submissions)
    return repeated_field(state_pb2.Batch.ITEMS_FIELD_NUMBER, items) + repeated_field(
        state_pb2.Batch.SEALS_FIELD_NUMBER, used.values()
    )


def sealed_keys(submissions: Iterable[ledger_pb2.SealedGroup]) -> tuple[state_pb2.SealedKey, ...]:
    """The transient field `sealed_keys`: each key once."""
    keys = {
        (key.msp, key.key, key.sealed): key for submission in submissions for key in submission.sealed_keys
    }
    return tuple(keys.values())


def holders(keys: Collection[state_pb2.SealedKey]) -> Holders:
    """The members whose collections the sealed keys go into."""
    needed = frozenset(key.msp for key in keys if is_sealed_record_key(key.key))
    return Holders(needed, frozenset(key.msp for key in keys) - needed)


def halves(
    submissions: Sequence[ledger_pb2.SealedGroup],
) -> tuple[Sequence[ledger_pb2.SealedGroup], Sequence[ledger_pb2.SealedGroup]]:
    """The first and the second half of two or more, in order."""
    middle = len(submissions) // 2
    return submissions[:middle], submissions[middle:]


def command_id_of(signed: command_pb2.SignedCommand) -> str:
    """The command's id; empty when the command cannot be read."""
    try:
        return commands.parse(signed)[0].command_id
    except commands.MalformedCommand:
        return ""


def body_name(signed: command_pb2.SignedCommand) -> str | None:
    """What the command does; None when it cannot be read: its verdict will be CODE_INVALID."""
    try:
        return commands.parse(signed)[1].WhichOneof("body")
    except commands.MalformedCommand:
        return None
