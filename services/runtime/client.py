"""Calling another service: a channel with mTLS; calls with a deadline, retries on a budget, our errors."""

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

import grpc
from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from cbmdhi import sending
from cbmdhi.command.v1 import code_pb2
from cbmdhi.sending import Attempts
from services.runtime import tracing
from services.runtime.config import ServiceConfig, Tls
from services.runtime.deadline import remaining_seconds
from services.runtime.errors import MeshError, from_rpc_error, unreadable
from services.runtime.limits import MAX_MESSAGE_BYTES, message_options
from services.runtime.retry import RetryBudget, backoff_seconds

__all__ = ["Metadata", "RetryBudget", "call", "connect", "connect_member", "connect_own", "stream"]

Metadata = Iterable[tuple[str, str | bytes]]

_RETRIED = frozenset((code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED))
_FIRST_DELAY_SECONDS = 0.05
_LONGEST_DELAY_SECONDS = 2.0

_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Also the time for a connection: a busy machine needs some for a handshake.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # No retries by gRPC: they are ours, within a budget.
    ("grpc.enable_retries", 0),
)


def connect(
    address: str,
    tls: Tls,
    service: str = "",
    organisation: str = "",
    msp_id: str = "",
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """A channel to `service` of `organisation`, which must show that name in its certificate.

    address       `host:port`
    service       `ledger`, `storage`, …; with `organisation` it gives the expected name
                  `<service>.<organisation>`, else `localhost` is expected
    msp_id        the member whose TLS CA must have issued the server's certificate; by default that
                  of `organisation` (`mercy` -> `MercyMSP`): no member can pose as another's service

    Close it with `await channel.close()` (`life.enter(connect(...))` does).
    """
    name = f"{service}.{organisation}" if service and organisation else "localhost"
    if organisation and not msp_id:
        msp_id = f"{organisation.capitalize()}MSP"
    roots = [member.ca_file.read_bytes() for member in tls.members if member.msp_id == msp_id or not msp_id]
    if not roots:
        raise MeshError.invalid(f"{msp_id} has no TLS CA roots; add them to the configuration", "tls.members")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=b"\n".join(roots),
        private_key=tls.key_file.read_bytes(),
        certificate_chain=tls.certificate_file.read_bytes(),
    )
    options = [*message_options(max_message_bytes), *_KEEPALIVE, ("grpc.ssl_target_name_override", name)]
    return grpc.aio.secure_channel(address, credentials, options=options)


def connect_own(
    config: ServiceConfig, address: str, service: str, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> grpc.aio.Channel:
    """A channel to another service of the own member."""
    return connect(address, config.tls, service, config.organisation, config.msp_id, max_message_bytes)


def connect_member(
    config: ServiceConfig, msp_id: str, address: str, service: str, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> grpc.aio.Channel:
    """A channel to a service of another member; that of `MercyMSP` shows the name `<service>.mercy`."""
    organisation = msp_id.removesuffix("MSP").lower()
    return connect(address, config.tls, service, organisation, msp_id, max_message_bytes)


async def call(
    method: Callable[..., Any],
    request: Message,
    *,
    deadline_seconds: float,
    retries: RetryBudget | None = None,
    metadata: Metadata | None = None,
    changes_state: grpc.aio.Channel | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> Any:
    """Make one unary call: `await call(stub.GetIdentity, request, deadline_seconds=2)`.

    deadline_seconds  for all attempts together; an incoming RPC's own deadline shortens it
    retries           None: one attempt. Otherwise UNAVAILABLE and RESOURCE_EXHAUSTED are tried again
                      with jitter, inside the budget and the deadline; only for idempotent calls
    changes_state     the channel of `method`, when the call changes state. It is sent only over an open
                      connection, so that a call that was never sent is NOT_DONE for certain, and a lost
                      answer is UNKNOWN_OUTCOME

    Raises MeshError and nothing else.
    """
    if request.ByteSize() > max_message_bytes:
        reason = f"the request is over {max_message_bytes} bytes; send less at once"
        raise MeshError.too_large(reason, outcome=code_pb2.OUTCOME_NOT_DONE)
    loop = asyncio.get_running_loop()
    left = remaining_seconds()
    ends_at = loop.time() + (deadline_seconds if left is None else min(left, deadline_seconds))
    attempt = 0
    attempts = Attempts()
    while True:
        try:
            seconds = max(0.0, ends_at - loop.time())
            response = await _attempt(method, request, seconds, metadata, changes_state)
        except MeshError as err:
            if changes_state is not None:
                err.outcome = attempts.failed(err.outcome)
            delay = max(
                backoff_seconds(attempt, first=_FIRST_DELAY_SECONDS, longest=_LONGEST_DELAY_SECONDS),
                err.retry_after_ms / 1000,
            )
            may_retry = err.code in _RETRIED and retries is not None and loop.time() + delay < ends_at
            if not may_retry or retries is None or not retries.take():
                raise
            await asyncio.sleep(delay)
            attempt += 1
        else:
            if retries is not None:
                retries.succeeded()
            return response


async def stream(
    method: Callable[..., Any],
    request: Message | AsyncIterable[Message],
    *,
    deadline_seconds: float | None = None,
    metadata: Metadata | None = None,
) -> AsyncIterator[Any]:
    """Iterate over the answers of a server-streaming or bidirectional call; raises MeshError.

    Without a deadline it lives until one side ends it: whoever iterates owns it, and closes it
    (`async with aclosing(stream(...)) as answers`).
    """
    loop = asyncio.get_running_loop()
    ends_at = math.inf if deadline_seconds is None else loop.time() + deadline_seconds
    answers = method(request, timeout=deadline_seconds, metadata=tracing.inject_metadata(metadata))
    try:
        async for answer in answers:
            yield answer
    except grpc.aio.AioRpcError as exc:
        raise from_rpc_error(exc, ends_at - loop.time()) from exc
    finally:
        answers.cancel()


async def _attempt(
    method: Callable[..., Any],
    request: Message,
    seconds: float,
    metadata: Metadata | None,
    changes_state: grpc.aio.Channel | None,
) -> Any:
    with tracing.span(_name_of(method), kind=SpanKind.CLIENT):
        return await _sent(method, request, seconds, metadata, changes_state)


async def _sent(
    method: Callable[..., Any],
    request: Message,
    seconds: float,
    metadata: Metadata | None,
    changes_state: grpc.aio.Channel | None,
) -> Any:
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    if changes_state is not None:
        await _connected(changes_state, seconds)
        seconds = max(0.0, ends_at - loop.time())
    try:
        answer = await method(request, timeout=seconds, metadata=tracing.inject_metadata(metadata))
    except grpc.aio.AioRpcError as exc:
        err = from_rpc_error(exc, ends_at - loop.time())
        if changes_state is not None and _is_lost(err, exc):
            raise MeshError.unknown_outcome(
                "the answer was lost, so it may have happened; send the same again",
                outcome=code_pb2.OUTCOME_UNKNOWN,
            ) from exc
        raise err from exc
    # What grpcio gives for bytes that are no message.
    if answer is None:
        raise unreadable()
    return answer


def _is_lost(err: MeshError, exc: grpc.aio.AioRpcError) -> bool:
    """Whether the call may have been carried out."""
    if sending.is_transports(exc):
        return sending.status_of(exc) in sending.LOST
    # A service that was stopped at its deadline does not know its outcome either.
    return err.code == code_pb2.CODE_DEADLINE_EXCEEDED and not err.nothing_done


async def _connected(channel: grpc.aio.Channel, seconds: float) -> None:
    """Wait for a connection. Raises MeshError; then nothing was sent."""
    try:
        await sending.connected(channel, seconds)
    except sending.NotConnected as exc:
        reason = f"the service: {exc.reason}; send again"
        raise MeshError(exc.code, reason, outcome=code_pb2.OUTCOME_NOT_DONE) from exc


def _name_of(method: Callable[..., Any]) -> str:
    """The full name, as grpcio's callables keep it."""
    name = getattr(method, "_method", b"rpc")
    return (name.decode() if isinstance(name, bytes) else str(name)).lstrip("/")
