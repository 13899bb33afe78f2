"""Why a gateway does not read a stream for a while."""

from __future__ import annotations

import logging

from cbmdhi.gateway.v1 import gateway_pb2

_log = logging.getLogger("cbmdhi.client")

_SLOWED = {
    gateway_pb2.SLOWED_REASON_REFUSALS: "too many submissions were refused",
    gateway_pb2.SLOWED_REASON_CALLER_IS_FULL: "as much is under way as one caller may have",
    gateway_pb2.SLOWED_REASON_GATEWAY_IS_FULL: "its memory is full",
}


def slowed_name(slowed: gateway_pb2.Slowed) -> str:
    """Why a gateway does not read a stream for a while, such as `too many submissions were refused`."""
    return _SLOWED.get(slowed.reason, "for a reason that this version does not know")


def log_slowed(slowed: gateway_pb2.Slowed) -> None:
    """Put it into the log."""
    after = f", again in about {slowed.retry_after_ms} ms" if slowed.retry_after_ms else ""
    _log.warning("the gateway does not read: %s%s", slowed_name(slowed), after)
