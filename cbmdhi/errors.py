"""What can go wrong for a user of the mesh.

    MeshError               any: a code of the closed list, a sentence, where, when again, what is certain
    ├── NotSent             nothing was done: it never left, or was refused before it had an effect
    ├── UnknownOutcome      it may have been done, or may still be: send the same again
    │   └── Unproven        a gateway says what became of it, and does not prove it: ask another member's
    ├── NotCommitted        the channel refused a command: its receipt says why
    │   └── AccessRefused   that command was a reading
    ├── NotAllWritten       of several records that were put together: what became of each
    ├── WalletError         the wallet's files are missing, unreadable or of another channel
    └── Misuse              what was asked for cannot be, and nothing was asked of anybody

What is asked for as one thing (a record, a group, a consent, a revocation, a registration, a vote, a reading)
is done when the call returns, or it raises. Of what is asked together (`records.put_each`, `records.send`,
`records.read_many`) each has a result of its own, to be looked at: a failed one has no receipt and no content
that could be taken for one. `records.put` of several raises unless all are written.

NotSent, UnknownOutcome and Unproven hold in `again` what was signed: `client.resend(error)` sends it as it
is, `client.outbox.keep(error)` keeps it over a restart.

    try:
        await engine.records.put(record)
    except UnknownOutcome as error:
        await engine.resend(error)
    except NotCommitted as refused:
        print(refused.code_name, refused.reason, refused.receipt.tx_id)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_status import rpc_status

from cbmdhi.command.v1 import code_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol.mesh_error import MeshError, code_name, of_detail
from cbmdhi.sending import LOST, status_of

if TYPE_CHECKING:
    from cbmdhi.client.records import Written

# Of statuses that come without a word of ours. What is lost on its way is sent again.
_BY_STATUS = dict.fromkeys(LOST, code_pb2.CODE_UNAVAILABLE) | {
    grpc.StatusCode.DEADLINE_EXCEEDED: code_pb2.CODE_DEADLINE_EXCEEDED,
    # Of a proxy, that has enough for now.
    grpc.StatusCode.RESOURCE_EXHAUSTED: code_pb2.CODE_RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED: code_pb2.CODE_UNAUTHENTICATED,
}
# How gRPC's libraries say that a message is over their own limit.
_OVER_LIMIT = "larger than max"

name_of = code_name


class _ToBeSent(MeshError):
    """`again` holds what was signed, as it was sent: SubmitRequest, IngestItem or SignedCommand."""

    def __init__(self, why: MeshError, again: Sequence[Message], outcome: int) -> None:
        super().__init__(why.code, why.reason, why.path, why.retry_after_ms, outcome)
        self.again = tuple(again)


class NotSent(_ToBeSent):
    """Nothing was done, and nothing will be by this sending. The same may be sent, or something else."""

    def __init__(self, why: MeshError, again: Sequence[Message]) -> None:
        super().__init__(why, again, code_pb2.OUTCOME_NOT_DONE)


class UnknownOutcome(_ToBeSent):
    """It may have been committed, or may still be. Send the same again (it has no second effect) or ask for
    its receipt; what is signed anew may be done twice."""

    def __init__(self, why: MeshError, again: Sequence[Message]) -> None:
        super().__init__(why, again, code_pb2.OUTCOME_UNKNOWN)


class Unproven(UnknownOutcome):
    """A gateway says what became of it and does not prove it: it may lie, or its member may not reach enough
    of the others. Send the same again, at another member's gateway."""

    def __init__(self, why: str, again: Sequence[Message], *, is_forged: bool = False) -> None:
        """is_forged: there was a proof, and it proves something else or nothing"""
        reason = (
            f"the gateway says what became of it, but {why}: believe nothing of it, and send the same again "
            "(it has no second effect) at another member's gateway"
        )
        code = code_pb2.CODE_INTEGRITY if is_forged else code_pb2.CODE_UNKNOWN_OUTCOME
        super().__init__(MeshError(code, reason), again)


class NotCommitted(MeshError):
    """The channel refused a command."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
        self.receipt = receipt


class AccessRefused(NotCommitted):
    """Policy or consent refused a reading. The refusal is on the channel: `receipt.tx_id`."""


class NotAllWritten(MeshError):
    """Of several records at least one was not written. Code, reason and what is certain are the first one's.

    written  what became of each, in the order given: those that are `ok` are committed
    again    what was signed and is not known to be done, to be sent again as it is (`client.resend`)
    """

    def __init__(self, written: Sequence[Written]) -> None:
        failed = [one.error for one in written if one.error is not None]
        first = failed[0]
        reason = f"{len(failed)} of {len(written)} records are not written; the first: {first.reason}"
        super().__init__(first.code, reason, first.path, first.retry_after_ms, first.outcome)
        self.written = tuple(written)
        self.again = tuple(
            item for error in failed if isinstance(error, NotSent | UnknownOutcome) for item in error.again
        )


class WalletError(MeshError):
    """The wallet cannot be used as it is."""

    def __init__(self, reason: str) -> None:
        super().__init__(code_pb2.CODE_INVALID, reason)


class Misuse(MeshError):
    """What was asked for cannot be as it is: a member that there is none, a file that is no JSON."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(code_pb2.CODE_INVALID, reason, path, outcome=code_pb2.OUTCOME_NOT_DONE)


def from_rpc(error: grpc.aio.AioRpcError, seconds_left: float = math.inf) -> MeshError:
    """Turn a failed call into ours, with the detail that every error of the mesh carries.

    seconds_left  until the call's own deadline, see `sending.status_of`
    """
    try:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        for detail in status.details if status else ():
            ours = code_pb2.ErrorDetail()
            if detail.Unpack(ours):
                return of_detail(ours)
    except (ValueError, DecodeError):
        return unreadable()
    grpc_status = status_of(error, seconds_left)
    code = _BY_STATUS.get(grpc_status, code_pb2.CODE_INTERNAL)
    reason = error.details() or "the gateway gave no reason"
    if code == code_pb2.CODE_DEADLINE_EXCEEDED:
        reason = "there was no answer within the deadline: send the same again, or allow more time"
    elif grpc_status is not error.code():
        reason = "the connection to the gateway was cut before its answer came"
    if grpc_status is grpc.StatusCode.RESOURCE_EXHAUSTED and _OVER_LIMIT in reason:
        # gRPC's own refusal, of what is over twice the limit: the gateway never sees it.
        code = code_pb2.CODE_TOO_LARGE
        reason = f"a message has at most 16 MiB, this one was too large for gRPC itself: send less ({reason})"
    # Not said by a service: the answer may merely have been lost.
    return MeshError(code, reason, outcome=code_pb2.OUTCOME_UNKNOWN)


def unreadable() -> MeshError:
    """Of an answer that is none: it was asked, and nobody knows what came of it."""
    reason = "what the gateway answers cannot be read: ask another member's gateway"
    return MeshError(code_pb2.CODE_INTEGRITY, reason, outcome=code_pb2.OUTCOME_UNKNOWN)


def to_be_sent(why: MeshError, again: Sequence[Message]) -> NotSent | UnknownOutcome:
    """What became of something signed, by what is certain; `again` as it was sent."""
    return (NotSent if why.nothing_done else UnknownOutcome)(why, again)
