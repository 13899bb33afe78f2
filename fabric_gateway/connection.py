"""A client's connection to its gateway peer: who calls, how long each step may take, and the seam
where gRPC's errors become this package's."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from . import _protos as fabric
from .errors import NoSigner, PeerFailure, StepError
from .identity import Identity, Signer

_MEBIBYTE = 1 << 20
_DETAILS_KEY = "grpc-status-details-bin"

# With these words grpcio begins whatever it says of a stream that ended without a status of the peer:
# RST_STREAM, GOAWAY, a closed socket. The status beside them is its guess from HTTP/2's error code, and may
# be one that a peer gives, such as PERMISSION_DENIED.
_REMOVED = "Stream removed"
# How an end looks that came by cancelling, when it is not grpcio's own timer that told of the deadline.
_CUT_OFF = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
# Both sides time the same call, each by its own clock. A peer may be ahead by so much.
_CLOCKS_DIFFER_SECONDS = 0.01

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Blocks are bounded by the orderer (AbsoluteMaxBytes, 10 MiB by default), not by gRPC's 4 MiB.
    ("grpc.max_receive_message_length", 100 * _MEBIBYTE),
    ("grpc.max_send_message_length", 100 * _MEBIBYTE),
    # A half-open connection is noticed. Fabric's peers refuse pings more often than once a minute.
    ("grpc.keepalive_time_ms", 120_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # A peer that comes back is found in seconds; the default doubles to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each step may take."""

    evaluate_seconds: float = 5.0
    endorse_seconds: float = 15.0
    submit_seconds: float = 5.0
    commit_status_seconds: float = 30.0


def open_channel(
    address: str, tls_ca_pem: bytes, tls_server_name: str = "", client: tuple[bytes, bytes] | None = None
) -> grpc.aio.Channel:
    """A TLS channel to a peer.

    tls_server_name  the name in the peer's certificate, when it is not the host of `address`
    client           own certificate and key (PEM), when the peer asks for them
    """
    certificate, key = client or (None, None)
    credentials = grpc.ssl_channel_credentials(tls_ca_pem, key, certificate)
    options: list[tuple[str, Any]] = list(CHANNEL_OPTIONS)
    if tls_server_name:
        options.append(("grpc.ssl_target_name_override", tls_server_name))
    return grpc.aio.secure_channel(address, credentials, options=options)


class Connection:
    """The gateway peer as one client sees it."""

    def __init__(
        self, channel: grpc.aio.Channel, identity: Identity, signer: Signer | None, deadlines: Deadlines
    ) -> None:
        self.channel = channel
        self.identity = identity
        self.creator = identity.serialize()
        self.deadlines = deadlines
        self.stub: Any = fabric.gateway_grpc.GatewayStub(channel)
        self._signer = signer

    def sign(self, digest: bytes) -> bytes:
        if self._signer is None:
            raise NoSigner
        return self._signer(digest)

    async def call(
        self,
        method: Callable[..., Awaitable[Any]],
        request: Any,
        timeout_seconds: float,
        error: type[StepError],
        transaction_id: str,
    ) -> Any:
        """One call of one step, with its deadline. Raises `error`."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + timeout_seconds
        try:
            return await method(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as exc:
            status = status_of(exc, ends_at - loop.time())
            raise error(status, exc.details() or "", failures_of(exc), transaction_id) from exc


def status_of(exc: grpc.aio.AioRpcError, seconds_left: float = math.inf) -> grpc.StatusCode:
    """With what a call really ended.

    seconds_left  until the call's own deadline, zero or less when it has passed; without end if it has none

    When a deadline passes, the peer cancels the stream at the same moment as grpcio's timer here. Whichever
    is first decides between DEADLINE_EXCEEDED and CANCELLED: both are DEADLINE_EXCEEDED. A stream that was
    removed earlier is UNAVAILABLE, whatever status grpcio guesses. The peer has refused nothing.
    """
    status = exc.code()
    is_removed = (exc.details() or "").startswith(_REMOVED)
    is_cut_off = is_removed or (status in _CUT_OFF and not failures_of(exc))
    if seconds_left <= _CLOCKS_DIFFER_SECONDS and is_cut_off:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    if is_removed and status is not grpc.StatusCode.DEADLINE_EXCEEDED:
        return grpc.StatusCode.UNAVAILABLE
    return status


def failures_of(exc: grpc.aio.AioRpcError) -> tuple[PeerFailure, ...]:
    """The peers that failed, from the status details (gateway.ErrorDetail)."""
    for key, value in exc.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return tuple(_failures(value))
    return ()


def _failures(serialized: bytes) -> list[PeerFailure]:
    failures: list[PeerFailure] = []
    try:
        for packed in status_pb2.Status.FromString(serialized).details:
            detail = fabric.gateway.ErrorDetail()
            if packed.Unpack(detail):
                failures.append(PeerFailure(detail.address, detail.msp_id, detail.message))
    except DecodeError:
        return failures
    return failures
