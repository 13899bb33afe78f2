"""Not sent, or unknown: what is certain when a sending has failed. For all who send, the SDK and services."""

from __future__ import annotations

import asyncio

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

_AWAY = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


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
