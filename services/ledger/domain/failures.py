"""What a failure of a Fabric step means for the batch that was in it."""

import re
from dataclasses import dataclass
from enum import Enum

from cbmdhi.command.v1 import code_pb2

_LEADING_CODE = re.compile(r"(CODE_[A-Z_]+)(?::|$)")

# The place of the fault follows the code, from a closed list as well: `CODE_UNAVAILABLE: clock: …`.
_OF_THE_CLOCK = re.compile(r"CODE_UNAVAILABLE: clock:")

# Refusals of the whole call that one bad group can cause; all others concern the call itself.
_ONE_GROUP_CAN_CAUSE = frozenset({code_pb2.CODE_INVALID, code_pb2.CODE_TOO_LARGE, code_pb2.CODE_INTERNAL})


class Remedy(Enum):
    """What to do next with the batch."""

    RETRY = "retry"
    """Try again after a while: peers were at different blocks, or one was unavailable."""
    RETRY_THEN_HALVE = "retry, then halve"
    """Another transaction was first: try once again, then in halves, which conflict with fewer others."""
    TELL_THE_TIME = "tell the time, then retry"
    """The chaincode could not endorse now. This service can submit the present epoch if that is missing."""
    HALVE = "halve"
    """One group can be the cause: find it, so that the others are not affected."""
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Failure:
    """Nothing was committed. `code` and `reason` are for the receipts when there is nothing left to try."""

    remedy: Remedy
    code: int
    reason: str


def leading_code(messages: tuple[str, ...]) -> int | None:
    """The code at the beginning of a chaincode's message (`CODE_X: …`). The text after it is not parsed."""
    for message in messages:
        match = _LEADING_CODE.match(message)
        value = code_pb2.Code.DESCRIPTOR.values_by_name.get(match.group(1)) if match else None
        if value is not None:
            return value.number
    return None


def is_of_the_clock(messages: tuple[str, ...]) -> bool:
    """True when a chaincode refused the time of the call as too far from its member's clock."""
    return any(_OF_THE_CLOCK.match(message) for message in messages)


def of_endorsement(status: str, messages: tuple[str, ...], *, needs_one: bool = False) -> Failure:
    """A failed endorsement.

    status     name of the gRPC status
    messages   what the peers said
    needs_one  a group of the batch must be endorsed by a certain member
    """
    code = leading_code(messages)
    if code is not None:
        return _of_chaincode(code)
    if needs_one and status in _AWAY:
        return CUSTODIAN_AWAY
    match status:
        case "DEADLINE_EXCEEDED":
            return TOO_LATE
        case "UNAVAILABLE" | "CANCELLED":
            return Failure(
                Remedy.RETRY,
                code_pb2.CODE_UNAVAILABLE,
                "a peer that must endorse is not there, so nothing was done; send the same command later",
            )
        case "RESOURCE_EXHAUSTED":
            return Failure(
                Remedy.RETRY,
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                "the peer has too much to do, so nothing was done; send the same command again later",
            )
        case "ABORTED":
            return Failure(
                Remedy.RETRY,
                code_pb2.CODE_ENDORSEMENT_FAILED,
                "the members disagree or one is away, so nothing was done; send the same command again",
            )
        case _:
            return Failure(
                Remedy.GIVE_UP,
                code_pb2.CODE_ENDORSEMENT_FAILED,
                "the peer refused the transaction, so nothing was done; the operator must look at the peer",
            )


def of_validation(code: int, name: str, conflicts: frozenset[int]) -> Failure:
    """The failure of a transaction that is in a block as invalid."""
    if code in conflicts:
        return Failure(
            Remedy.RETRY_THEN_HALVE,
            code_pb2.CODE_RESOURCE_EXHAUSTED,
            "too many changes of the same documents, so nothing was done; send the same command again",
        )
    return Failure(
        Remedy.GIVE_UP,
        code_pb2.CODE_ENDORSEMENT_FAILED,
        f"the channel found the transaction invalid ({name}), so nothing was done; "
        "the members' operators must look at their chaincode",
    )


_AWAY = frozenset({"UNAVAILABLE", "CANCELLED", "ABORTED", "FAILED_PRECONDITION"})

CUSTODIAN_AWAY = Failure(
    # The other groups of the batch do not have to wait for it.
    Remedy.RETRY_THEN_HALVE,
    code_pb2.CODE_UNAVAILABLE,
    "a custodian that the patient chose is not there, so nothing was done; send the same command later",
)

REFUSED_BY_ORDERER = Failure(
    Remedy.HALVE,
    code_pb2.CODE_UNAVAILABLE,
    "the ordering service refused the transaction, so nothing was done; send the same command again later",
)

TOO_LATE = Failure(
    Remedy.GIVE_UP,
    code_pb2.CODE_DEADLINE_EXCEEDED,
    "the members did not endorse in time, so nothing was done; send the same command again",
)

OUT_OF_BUDGET = Failure(
    Remedy.GIVE_UP,
    code_pb2.CODE_RESOURCE_EXHAUSTED,
    "the batch used up its tries, so nothing was done; send the same command again",
)

MALFORMED_RESULT = Failure(
    Remedy.GIVE_UP,
    code_pb2.CODE_INTERNAL,
    "the chaincode's answer does not fit the commands, so nothing was done; the operators must look at it",
)

UNKNOWN_REASON = (
    "the transaction was sent and its fate is not known: sent again as it was signed, it is done at most once"
)


def _of_chaincode(code: int) -> Failure:
    remedy = Remedy.GIVE_UP
    if code == code_pb2.CODE_UNAVAILABLE:
        remedy = Remedy.TELL_THE_TIME
    elif code in _ONE_GROUP_CAN_CAUSE:
        remedy = Remedy.HALVE
    return Failure(remedy, code, "the chaincode refused the call, so nothing was done")
