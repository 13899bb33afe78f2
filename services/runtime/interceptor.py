"""Wraps every answered RPC: trace, deadline, peer, errors, metrics, a log line."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from time import perf_counter
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanKind

from cbmdhi.command.v1 import code_pb2
from services.runtime import telemetry, tracing
from services.runtime.callers import PeerDirectory, current_directory
from services.runtime.deadline import current_deadline
from services.runtime.errors import MeshError, code_name, guarded, to_status

_log = structlog.get_logger()

_OURS_TO_MEND = frozenset((code_pb2.CODE_INTERNAL, code_pb2.CODE_INTEGRITY, code_pb2.CODE_UNSPECIFIED))


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler. Its errors become a status with an ErrorDetail."""

    def __init__(
        self,
        metrics: telemetry.Metrics,
        directory: PeerDirectory,
        *,
        default_deadline_seconds: float,
        max_message_bytes: int,
        max_running: int,
        max_running_per_source: int | None = None,
    ) -> None:
        self._directory = directory
        self._default_deadline_seconds = default_deadline_seconds
        self._max_message_bytes = max_message_bytes
        self._max_running = max_running
        self._max_running_per_source = max_running_per_source
        # Streams live long, so they have a limit of their own.
        self._running_now = {True: 0, False: 0}
        self._running_of: Counter[str] = Counter()
        self._requests = metrics.counter("rpc_requests", "RPCs answered, by outcome", ("method", "code"))
        self._durations = metrics.histogram("rpc_duration", "seconds", "Time to answer an RPC", ("method",))
        self._running = metrics.gauge("rpc_running", "count", "RPCs being answered now", ("method",))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.response_streaming:
            behaviour = handler.stream_stream if handler.request_streaming else handler.unary_stream
            wrapped: Any = self._streaming(method, behaviour)
        else:
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            wrapped = self._single(method, behaviour)
        return _KINDS[handler.request_streaming, handler.response_streaming](
            wrapped,
            request_deserializer=_reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _single(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: Any, context: Any) -> Any:
            async def work() -> Any:
                return await behaviour(self._checked(request), context)

            return await self._around(method, context, work, self._default_deadline_seconds, streams=False)

        return answer

    def _streaming(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(request: Any, context: Any) -> None:
            async def work() -> None:
                answers = behaviour(self._checked(request), context)
                if not inspect.isasyncgen(answers):
                    await answers
                    return
                async with aclosing(answers):
                    async for message in answers:
                        await context.write(message)

            # A stream may live long: without a deadline of the client's it has none.
            await self._around(method, context, work, None, streams=True)

        return answer

    async def _around(
        self,
        method: str,
        context: Any,
        work: Callable[[], Awaitable[Any]],
        default_seconds: float | None,
        *,
        streams: bool,
    ) -> Any:
        seconds = context.time_remaining()
        seconds = default_seconds if seconds is None else seconds
        current_directory.set(self._directory)
        current_deadline.set(None if seconds is None else asyncio.get_running_loop().time() + seconds)
        started = perf_counter()
        outcome = "CANCELLED"
        self._running.labels(method).inc()
        self._running_now[streams] += 1
        source = "" if self._max_running_per_source is None else _source_of(context)
        self._running_of[source] += 1
        parent = tracing.extract(context.invocation_metadata())
        with tracing.span(method.lstrip("/"), parent=parent, kind=SpanKind.SERVER) as span:
            try:
                self._check_room(source, streams=streams)
                answer = await guarded(_within(seconds, work), "rpc.crashed")
                outcome = "OK"
                return answer
            except MeshError as err:
                outcome = code_name(err.code)
                span.fail(err.code)
                _log.log(
                    40 if err.code in _OURS_TO_MEND else 20,
                    "rpc.refused",
                    method=method,
                    code=outcome,
                    duration_ms=_ms_since(started),
                )
                status = to_status(err)
                await context.abort(status.code, status.details, status.trailing_metadata)
            except grpc.aio.AbortError:
                outcome = "ABORTED"
                raise
            finally:
                self._running_now[streams] -= 1
                self._running_of[source] -= 1
                if not self._running_of[source]:
                    del self._running_of[source]
                self._running.labels(method).dec()
                self._requests.labels(method, outcome).inc()
                self._durations.labels(method).observe(perf_counter() - started, telemetry.exemplar())
                if outcome == "OK":
                    _log.debug("rpc.answered", method=method, code=outcome, duration_ms=_ms_since(started))

    def _check_room(self, source: str, *, streams: bool) -> None:
        most_of_one = self._max_running_per_source
        if self._running_now[streams] > self._max_running:
            what = "streams are open" if streams else "calls are being answered"
            reason = f"{self._max_running} {what} already; send again after the delay"
        elif most_of_one is not None and self._running_of[source] > most_of_one:
            reason = f"{most_of_one} calls of this address are being answered; send again after the delay"
        else:
            return
        raise MeshError.resource_exhausted(reason, retry_after_ms=200, outcome=code_pb2.OUTCOME_NOT_DONE)

    def _checked(self, request: Any) -> Any:
        if isinstance(request, Message | _Unreadable):
            self._check_size(request)
            return request
        return self._checked_stream(request)

    async def _checked_stream(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self._check_size(request)
            yield request

    def _check_size(self, request: Message | _Unreadable) -> None:
        if isinstance(request, _Unreadable):
            raise MeshError.invalid(
                "the bytes are not a message of this method: check the protos",
                outcome=code_pb2.OUTCOME_NOT_DONE,
            )
        if request.ByteSize() > self._max_message_bytes:
            raise MeshError.too_large(
                f"a message may have {self._max_message_bytes} bytes; send less at once",
                outcome=code_pb2.OUTCOME_NOT_DONE,
            )


class _Unreadable:
    """Bytes that are no message of the type that the method takes."""


def _reader(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """The deserializer without exceptions: gRPC would answer INTERNAL and log them as our fault."""
    if deserializer is None:
        return None

    def read(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except DecodeError:
            return _Unreadable()

    return read


async def _within(seconds: float | None, work: Callable[[], Awaitable[Any]]) -> Any:
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            return await work()
    except TimeoutError as exc:
        if not timeout.expired():
            raise
        raise MeshError.deadline_exceeded(
            "not done within the deadline; send again or allow more time", outcome=code_pb2.OUTCOME_UNKNOWN
        ) from exc


def _source_of(context: Any) -> str:
    """The address that a call comes from, without the port: `ipv4:10.0.0.7`."""
    return context.peer().rpartition(":")[0]


def _ms_since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 2)


_KINDS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
