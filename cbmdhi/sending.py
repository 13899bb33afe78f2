"""Not sent, or unknown: what is certain when a sending has failed. For all who send, the SDK and services."""

from __future__ import annotations

import asyncio
import math

import grpc

from cbmdhi.command.v1 import code_pb2

LOST = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    )
)
"""Statuses that no service of the mesh gives without an ErrorDetail. Without one they are the transport's: a
connection was cut, or there is a proxy. The request may have left, and what became of it was not heard."""

_DETAILS_KEY = "grpc-status-details-bin"
# With these words grpcio begins whatever it says of a stream that ended without a status of the server:
# RST_STREAM, GOAWAY, a closed socket. The status beside them is its guess from HTTP/2's error code, and may
# be one that a service gives, such as PERMISSION_DENIED.
_REMOVED = "Stream removed"
# How an end looks that came by cancelling, when it is not grpcio's own timer that told of the deadline.
_CUT_OFF = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
# Both sides time the same call, each by its own clock. A peer may be ahead by so much.
_CLOCKS_DIFFER_SECONDS = 0.01

_AWAY = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


def is_transports(error: grpc.aio.AioRpcError) -> bool:
    """True when the status is not from a service of the mesh: the answer was lost, cut off or never made."""
    return all(key != _DETAILS_KEY for key, _ in error.trailing_metadata() or ())


def status_of(error: grpc.aio.AioRpcError, seconds_left: float = math.inf) -> grpc.StatusCode:
    """With what a call really ended.

    seconds_left  until the call's own deadline, zero or less when it has passed; without end if it has none

    When a deadline passes, the service cancels the stream at the same moment as grpcio's timer here.
    Whichever is first decides between DEADLINE_EXCEEDED and CANCELLED: both are DEADLINE_EXCEEDED. A stream
    that was removed earlier is UNAVAILABLE, whatever status grpcio guesses. What a service says itself stays
    as it is.
    """
    status = error.code()
    if not is_transports(error):
        return status
    is_removed = (error.details() or "").startswith(_REMOVED)
    if seconds_left <= _CLOCKS_DIFFER_SECONDS and (is_removed or status in _CUT_OFF):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    if is_removed and status is not grpc.StatusCode.DEADLINE_EXCEEDED:
        return grpc.StatusCode.UNAVAILABLE
    return status


class NotConnected(Exception):
    """There was no connection, so nothing was sent: `code` is CODE_UNAVAILABLE or CODE_DEADLINE_EXCEEDED."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


async def connected(channel: grpc.aio.Channel, seconds: float) -> None:
    """Return when there is a connection: what fails before that has done nothing. Raises NotConnected."""
    try:
        async with asyncio.timeout(seconds):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state in _AWAY:
                    raise NotConnected(code_pb2.CODE_UNAVAILABLE, "it cannot be reached, so nothing was sent")
                await channel.wait_for_state_change(state)
    except TimeoutError as error:
        reason = "there was no connection to it in time, so nothing was sent"
        raise NotConnected(code_pb2.CODE_DEADLINE_EXCEEDED, reason) from error


class Attempts:
    """Attempts to send the same: that the last one did nothing says nothing of one before."""

    def __init__(self) -> None:
        self.nothing_done = True
        """True while it is certain of all of them."""

    def failed(self, outcome: int) -> int:
        """Note what is certain of one that failed. Gives what is certain of all: a value of `Outcome`."""
        self.nothing_done = self.nothing_done and outcome == code_pb2.OUTCOME_NOT_DONE
        if outcome == code_pb2.OUTCOME_NOT_DONE and not self.nothing_done:
            return code_pb2.OUTCOME_UNKNOWN
        return outcome
