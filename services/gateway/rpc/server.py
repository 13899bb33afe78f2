"""Puts the table of routes on a gRPC server: each method behind its admission, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.notify.v1 import notify_pb2
from services.gateway.domain.session import Session
from services.gateway.domain.source import Sources, of_grpc
from services.gateway.pipeline.client_quota import ClientQuotas
from services.gateway.rpc.admission import Admission
from services.gateway.rpc.commands import Commands
from services.gateway.rpc.emergency import Emergency
from services.gateway.rpc.forward import Arrived, Forwarder, RawMessage, check_size
from services.gateway.rpc.ingest import Ingest
from services.gateway.rpc.records import Records
from services.gateway.rpc.routes import INGEST, ROUTES, Authentication, Route, Target, Throttled
from services.runtime.callers import Caller
from services.runtime.errors import MeshError, nothing_done
from services.runtime.limits import MAX_MESSAGE_BYTES
from services.runtime.server import GrpcServer
from services.runtime.throttle import Throttle

# What is over MAX_MESSAGE_BYTES up to here gets our own refusal, and leaves its stream alone.
TRANSPORT_BYTES = 2 * MAX_MESSAGE_BYTES
# Smaller ones are not worth the counting.
_LARGE_ANSWER_BYTES = 64 * 1024

# With a session, but for what a route lets whoever is enrolled ask.
Unary = Callable[[Any, Any], Awaitable[Message]]
Inspect = Callable[[bytes, Any], None]

_MODULES: tuple[Any, ...] = (gateway_pb2, identity_pb2, notify_pb2)


@dataclass(frozen=True)
class RpcServer:
    """What answers the routes.

    forwarders  to the services behind it
    inspected   methods whose request is looked at before it is passed on
    throttles   for routes that are limited by where the caller is
    """

    admission: Admission
    quotas: ClientQuotas
    commands: Commands
    records: Records
    emergency: Emergency
    ingest: Ingest
    forwarders: Mapping[Target, Forwarder]
    inspected: Mapping[str, Inspect]
    sources: Sources
    throttles: Mapping[Throttled, Throttle]

    def add_to(self, server: GrpcServer, *, first_contact: bool) -> None:
        """Offer every route, or those of first contact alone."""
        for service in _services():
            handlers = {
                method.name: self._handler(method, route)
                for method in service.methods
                if (route := ROUTES.get(f"/{service.full_name}/{method.name}")) is not None
                and (route.first_contact or not first_contact)
            }
            if handlers:
                generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
                server.add(lambda handler, to: to.add_generic_rpc_handlers((handler,)), generic)

    def _handler(self, method: MethodDescriptor, route: Route) -> grpc.RpcMethodHandler:
        if route.method == INGEST:
            return grpc.stream_stream_rpc_method_handler(
                self._ingest(route),
                request_deserializer=_reader(method.input_type),
                response_serializer=_serialized,
            )
        if route.target is Target.GATEWAY:
            return grpc.unary_unary_rpc_method_handler(
                self._own(route),
                request_deserializer=_reader(method.input_type),
                response_serializer=_serialized,
            )
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._forwarded_stream(route), request_deserializer=RawMessage
            )
        return grpc.unary_unary_rpc_method_handler(self._forwarded(route), request_deserializer=RawMessage)

    def _own_methods(self) -> dict[str, Unary]:
        prefix = "/cbmdhi.gateway.v1."
        return {
            f"{prefix}CommandService/Submit": self.commands.submit,
            f"{prefix}CommandService/GetReceipt": self.commands.get_receipt,
            f"{prefix}RecordService/Read": self.records.read,
            f"{prefix}RecordService/ReadMany": self.records.read_many,
            f"{prefix}RecordService/ReadInEmergency": self.emergency.read,
            f"{prefix}RecordService/GetStandstill": self.emergency.standstill,
            f"{prefix}RecordService/ListEmergencies": self.emergency.list,
            f"{prefix}RecordService/GetLatestVersions": self.records.get_latest_versions,
            f"{prefix}RecordService/ListRecords": self.records.list_records,
            f"{prefix}RecordService/ListConsents": self.records.list_consents,
            f"{prefix}RecordService/ListAudit": self.records.list_audit,
            f"{prefix}RecordService/GetBrokenGlass": self.records.get_broken_glass,
            f"{prefix}RecordService/GetProof": self.records.get_proof,
            f"{prefix}RecordService/GetBlob": self.records.get_blob,
        }

    def _own(self, route: Route) -> Callable[..., Any]:
        answer_to = self._own_methods()[route.method]

        async def answer(request: Arrived, context: Any) -> Message:
            with nothing_done():
                check_size(request)
                caller = await self.admission.admit(route, context)
                if caller is None or route.authentication is Authentication.SESSION:
                    caller = _present(caller)
                decoded = request.decoded()
                check_size(decoded)
            answered = await answer_to(decoded, caller)
            await self._hold(answered, caller.address, context)
            return answered

        return answer

    async def _hold(self, answer: Message, address: str, context: Any) -> None:
        """A large answer is in memory until it is sent, and counts for as long: its reader may be slow."""
        size = answer.ByteSize()
        if size >= _LARGE_ANSWER_BYTES:
            quota = self.quotas.of(address)
            await quota.memory.take(size)
            context.add_done_callback(lambda _: quota.memory.give(size))

    def _ingest(self, route: Route) -> Callable[..., Any]:
        async def answer(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
            session = _present(await self.admission.admit(route, context))
            async with aclosing(
                self.admission.watched(session, self.ingest.stream(requests, session))
            ) as answers:
                async for message in answers:
                    yield message

        return answer

    def _forwarded(self, route: Route) -> Callable[..., Any]:
        forwarder, inspect = self.forwarders[route.target], self.inspected.get(route.method)

        async def answer(request: RawMessage, context: Any) -> bytes:
            check_size(request)
            if route.throttle is not None:
                self.throttles[route.throttle].take(self._source_of(context))
            caller = await self.admission.admit(route, context)
            if inspect is not None:
                inspect(request.raw, context)
            return await forwarder.unary(route, request, caller)

        return answer

    def _source_of(self, context: Any) -> str:
        forwarded = [
            str(value) for key, value in context.invocation_metadata() or () if key == "x-forwarded-for"
        ]
        return self.sources.of(of_grpc(context.peer()), forwarded)

    def _forwarded_stream(self, route: Route) -> Callable[..., Any]:
        forwarder = self.forwarders[route.target]

        async def answer(request: RawMessage, context: Any) -> AsyncIterator[bytes]:
            check_size(request)
            session = _present(await self.admission.admit(route, context))
            quota = self.quotas.of(session.address)
            answers = forwarder.stream(route, request, session)
            async with aclosing(self.admission.watched(session, answers)) as watched:
                with quota.stream():
                    async for message in watched:
                        yield message

        return answer


def _services() -> list[ServiceDescriptor]:
    return [service for module in _MODULES for service in module.DESCRIPTOR.services_by_name.values()]


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()


def _reader(descriptor: Any) -> Callable[[bytes], Message]:
    """Takes requests as they come: decoded when the caller is known and there is memory for them."""
    from_string = message_factory.GetMessageClass(descriptor).FromString
    return lambda raw: Arrived(raw, from_string)


def _present(caller: Caller | Session | None) -> Session:
    if not isinstance(caller, Session):
        raise MeshError(code_pb2.CODE_INTERNAL, "a route without a session reached who needs one")
    return caller
