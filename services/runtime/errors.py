"""One error type for the whole mesh, with a closed list of codes.

The list is `cbmdhi.command.v1.Code`. A service raises `MeshError`; the server's interceptor carries
it whole over gRPC (`google.rpc.Status` with an `ErrorDetail`); `client.call` raises it again on the
other side; the gateway's REST server turns it into HTTP once. Programs look at the code only.

    MeshError    what went wrong, as a code and a sentence that a person can act on
    └── Refused  a rule says so, see `services.runtime.refusal`. Any finer distinction is another code
"""

import math
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from copy import copy
from traceback import extract_tb
from typing import Any, TypeVar

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import code_pb2 as rpc_code_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status
from opentelemetry import trace

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol.mesh_error import MeshError, code_name, of_detail
from cbmdhi.sending import status_of

T = TypeVar("T")

_log = structlog.get_logger()

_DETAILS_KEY = "grpc-status-details-bin"

# Trailing metadata over 8 KiB is refused by clients, and the error would be lost with it.
_LONGEST_REASON = 400
_LONGEST_PATH = 200

# The one table: code -> (gRPC status, HTTP status).
_STATUS: dict[int, tuple[grpc.StatusCode, int]] = {
    code_pb2.CODE_UNSPECIFIED: (grpc.StatusCode.INTERNAL, 500),
    code_pb2.CODE_OK: (grpc.StatusCode.OK, 200),
    code_pb2.CODE_ALREADY_COMMITTED: (grpc.StatusCode.ALREADY_EXISTS, 200),
    code_pb2.CODE_BAD_SIGNATURE: (grpc.StatusCode.PERMISSION_DENIED, 403),
    code_pb2.CODE_EXPIRED: (grpc.StatusCode.FAILED_PRECONDITION, 422),
    code_pb2.CODE_UNKNOWN_SIGNER: (grpc.StatusCode.PERMISSION_DENIED, 403),
    code_pb2.CODE_INACTIVE_SIGNER: (grpc.StatusCode.PERMISSION_DENIED, 403),
    code_pb2.CODE_FORBIDDEN: (grpc.StatusCode.PERMISSION_DENIED, 403),
    code_pb2.CODE_CONFLICT: (grpc.StatusCode.ABORTED, 409),
    code_pb2.CODE_INVALID: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    code_pb2.CODE_WRONG_CHANNEL: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    code_pb2.CODE_NOT_FOUND: (grpc.StatusCode.NOT_FOUND, 404),
    code_pb2.CODE_GROUP_REFUSED: (grpc.StatusCode.ABORTED, 409),
    code_pb2.CODE_TOO_LARGE: (grpc.StatusCode.INVALID_ARGUMENT, 413),
    code_pb2.CODE_UNAUTHENTICATED: (grpc.StatusCode.UNAUTHENTICATED, 401),
    code_pb2.CODE_RESOURCE_EXHAUSTED: (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    code_pb2.CODE_UNAVAILABLE: (grpc.StatusCode.UNAVAILABLE, 503),
    code_pb2.CODE_DEADLINE_EXCEEDED: (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    code_pb2.CODE_UNKNOWN_OUTCOME: (grpc.StatusCode.UNKNOWN, 502),
    code_pb2.CODE_ENDORSEMENT_FAILED: (grpc.StatusCode.ABORTED, 502),
    code_pb2.CODE_INTEGRITY: (grpc.StatusCode.DATA_LOSS, 502),
    code_pb2.CODE_INTERNAL: (grpc.StatusCode.INTERNAL, 500),
}

# Statuses that come without an ErrorDetail: from gRPC itself or from a server that is not ours.
# RESOURCE_EXHAUSTED is TOO_LARGE here: our servers always send a detail when they are busy, so
# without one it is the transport's limit on the size of a message.
_FOREIGN: dict[grpc.StatusCode, tuple[int, str]] = {
    grpc.StatusCode.UNAVAILABLE: (code_pb2.CODE_UNAVAILABLE, "the service did not answer; send again"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        code_pb2.CODE_DEADLINE_EXCEEDED,
        "no answer within the deadline; send again or allow more time",
    ),
    grpc.StatusCode.CANCELLED: (code_pb2.CODE_UNAVAILABLE, "the call was cut off; send again"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        code_pb2.CODE_TOO_LARGE,
        "the message is over the transport's limit (16 MiB, if nothing else is said); send less at once",
    ),
    grpc.StatusCode.UNAUTHENTICATED: (code_pb2.CODE_UNAUTHENTICATED, "the service does not know the caller"),
    grpc.StatusCode.PERMISSION_DENIED: (code_pb2.CODE_FORBIDDEN, "the service refused the caller"),
    grpc.StatusCode.NOT_FOUND: (code_pb2.CODE_NOT_FOUND, "the service found nothing under that name"),
    grpc.StatusCode.INVALID_ARGUMENT: (
        code_pb2.CODE_INVALID,
        "the service could not make sense of the request",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        code_pb2.CODE_INTERNAL,
        "the service does not offer this call; check that both sides run the same version",
    ),
}


TRANSIENT = frozenset(
    (
        code_pb2.CODE_RESOURCE_EXHAUSTED,
        code_pb2.CODE_UNAVAILABLE,
        code_pb2.CODE_DEADLINE_EXCEEDED,
        code_pb2.CODE_UNKNOWN_OUTCOME,
    )
)
"""Codes after which the same may well succeed later."""


def copied(err: MeshError) -> MeshError:
    """A copy for another waiting caller: raising an exception changes its traceback."""
    return copy(err)


@contextmanager
def nothing_done() -> Iterator[None]:
    """For a block before any effect: errors from it say NOT_DONE, unless they state an outcome."""
    try:
        yield
    except MeshError as err:
        err.outcome = err.outcome or code_pb2.OUTCOME_NOT_DONE
        raise


def outcome_name(outcome: int) -> str:
    """`NOT_DONE` for OUTCOME_NOT_DONE; `UNSPECIFIED` for a number that is not on the list."""
    names = code_pb2.Outcome.DESCRIPTOR.values_by_number
    return names[outcome].name.removeprefix("OUTCOME_") if outcome in names else "UNSPECIFIED"


def grpc_status_of(code: int) -> grpc.StatusCode:
    return _STATUS.get(code, _STATUS[code_pb2.CODE_UNSPECIFIED])[0]


def http_status_of(code: int) -> int:
    return _STATUS.get(code, _STATUS[code_pb2.CODE_UNSPECIFIED])[1]


def to_detail(err: MeshError) -> code_pb2.ErrorDetail:
    return code_pb2.ErrorDetail(
        code=err.code,  # pyright: ignore[reportArgumentType]
        reason=err.reason[:_LONGEST_REASON],
        path=err.path[:_LONGEST_PATH],
        retry_after_ms=err.retry_after_ms,
        outcome=err.outcome,  # pyright: ignore[reportArgumentType]
    )


def to_status(err: MeshError) -> grpc.Status:
    """The gRPC status (code, details, trailing metadata) that carries the error whole."""
    detail = any_pb2.Any()
    carried = to_detail(err)
    detail.Pack(carried)
    number = grpc_status_of(err.code).value[0]
    if number == rpc_code_pb2.OK:
        raise ValueError("a success is not an error")
    return rpc_status.to_status(status_pb2.Status(code=number, message=carried.reason, details=[detail]))


def from_rpc_error(err: grpc.aio.AioRpcError, seconds_left: float = math.inf) -> MeshError:
    """The MeshError that a service of ours sent, or the one for a foreign status.

    seconds_left  until the call's own deadline, see `sending.status_of`

    For calls between services of the mesh, not for answers of Fabric peers.
    """
    for key, value in err.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                detail = _detail_of(value)
            except DecodeError:
                return unreadable()
            if detail is not None:
                return of_detail(detail)
    status = status_of(err, seconds_left)
    code, reason = _FOREIGN.get(
        status, (code_pb2.CODE_INTERNAL, f"the service failed with gRPC status {status.name}")
    )
    return MeshError(code, reason)


def unreadable() -> MeshError:
    """The error for an answer that is none: nobody knows what became of what was asked."""
    return MeshError.internal(
        "a service's answer cannot be read; its operator checks that it is of the same release",
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )


def to_http(err: MeshError) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON body of an error. Send `Retry-After` when `retry_after_ms` is there."""
    body: dict[str, Any] = {"code": code_name(err.code), "reason": err.reason}
    if err.outcome:
        body["outcome"] = outcome_name(err.outcome)
    if err.path:
        body["path"] = err.path
    if err.retry_after_ms:
        body["retry_after_ms"] = err.retry_after_ms
    return http_status_of(err.code), body


def unexpected(exc: BaseException, event: str) -> MeshError:
    """CODE_INTERNAL for an unexpected exception. Its place is logged, never its text."""
    span = trace.get_current_span().get_span_context()
    _log.error(
        event,
        error_type=type(exc).__qualname__,
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in extract_tb(exc.__traceback__)],
    )
    return MeshError.internal(
        f"the service failed; its operator finds it in the logs by trace id {span.trace_id:032x}"
    )


def cannot_bind(address: str) -> MeshError:
    """The error for a port that is in use."""
    return MeshError.unavailable(
        f"{address} cannot be bound: it is taken, or not an address of this machine;"
        " end what listens there (ss -ltnp), or configure another address"
    )


async def guarded(work: Awaitable[T], event: str = "internal.error") -> T:
    """Await `work` at a seam (an RPC, an event's handler, a readiness check): only MeshError leaves it.

    The one place with a broad except: past a seam, a fault of one request must neither end the
    service nor show the caller an exception's text.
    """
    try:
        return await work
    except (MeshError, grpc.aio.AbortError):
        raise
    except grpc.aio.AioRpcError as exc:
        raise from_rpc_error(exc) from exc
    except Exception as exc:
        raise unexpected(exc, event) from exc


def _detail_of(serialized: bytes) -> code_pb2.ErrorDetail | None:
    status = status_pb2.Status.FromString(serialized)
    for packed in status.details:
        detail = code_pb2.ErrorDetail()
        if packed.Unpack(detail):
            return detail
    return None
