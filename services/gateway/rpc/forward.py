"""Calls of identity and notify: passed on as the bytes they came in, the caller's name in the metadata."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain.session import Session
from services.gateway.rpc.routes import Route
from services.runtime import client
from services.runtime.callers import Caller, caller_metadata
from services.runtime.errors import MeshError
from services.runtime.limits import MAX_MESSAGE_BYTES

_CALL_SECONDS = 28.0


class RawMessage(Message):
    """A message that is not looked into: neither decoded nor encoded again."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def ByteSize(self) -> int:
        """Its size."""
        return len(self.raw)

    @staticmethod
    def serialize(message: RawMessage) -> bytes:
        """The bytes it came in."""
        return message.raw


class Arrived(RawMessage):
    """A message as it came: to be decoded when there is memory for it, and its caller is known."""

    __slots__ = ("_from_string",)

    def __init__(self, raw: bytes, from_string: Callable[[bytes], Message]) -> None:
        super().__init__(raw)
        self._from_string = from_string

    def decoded(self) -> Message:
        """The message; Unreadable when the bytes are none of its type: gRPC itself would answer INTERNAL."""
        try:
            return self._from_string(self.raw)
        except DecodeError:
            return Unreadable(self.raw)


class Unreadable(RawMessage):
    """Bytes that are not a message of the type that the method takes."""

    __slots__ = ()


def check_size(request: Message) -> None:
    """Raises MeshError TOO_LARGE with the limit, INVALID for what is no message of its type."""
    if isinstance(request, Unreadable):
        raise MeshError(code_pb2.CODE_INVALID, "the bytes are not a message of this method: check the protos")
    if request.ByteSize() > MAX_MESSAGE_BYTES:
        raise MeshError(
            code_pb2.CODE_TOO_LARGE,
            f"a message has at most {MAX_MESSAGE_BYTES} bytes (16 MiB): send less at once",
        )


class Forwarder:
    """Passes calls on to one service. Nothing of the caller's metadata goes along."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._methods: dict[tuple[str, bool], Any] = {}

    async def unary(self, route: Route, request: RawMessage, caller: Caller | Session | None) -> bytes:
        """One answer. Raises MeshError."""
        return await client.call(
            self._method(route.method, streams=False),
            request,
            deadline_seconds=_CALL_SECONDS,
            metadata=_metadata(caller),
            changes_state=self._channel if route.changes_state else None,
        )

    async def stream(
        self, route: Route, request: RawMessage, caller: Caller | Session | None
    ) -> AsyncGenerator[bytes, None]:
        """Answers for as long as the caller listens. Raises MeshError."""
        answers = client.stream(self._method(route.method, streams=True), request, metadata=_metadata(caller))
        async for answer in answers:
            yield answer

    def _method(self, method: str, *, streams: bool) -> Any:
        key = method, streams
        if key not in self._methods:
            make = self._channel.unary_stream if streams else self._channel.unary_unary
            self._methods[key] = make(method, request_serializer=RawMessage.serialize)
        return self._methods[key]


def _metadata(caller: Caller | Session | None) -> tuple[tuple[str, str], ...]:
    return () if caller is None else caller_metadata(Caller(caller.address, caller.role, caller.msp))
