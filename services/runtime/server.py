"""The gRPC server of a service: mTLS, our errors, deadlines, traces, metrics, health, reflection, drain."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.runtime import clock
from services.runtime.callers import PeerDirectory
from services.runtime.config import ServiceConfig, Tls
from services.runtime.errors import cannot_bind
from services.runtime.interceptor import MeshInterceptor
from services.runtime.lifecycle import Lifecycle
from services.runtime.limits import MAX_MESSAGE_BYTES, message_options

_HEALTH_EVERY_SECONDS = 1.0
_HANDSHAKE_MS = 10_000
# Of one port.
_MAX_CONNECTIONS = 5_000
# More than can be answered at a time, so that we refuse the excess with NOT_DONE. A caller could not tell
# HTTP/2's own refusal from a lost answer.
_MAX_STREAMS = 5_000

_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients that ping more often are disconnected: half of the shortest interval that engines use.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 3),
    # By default a silent connection is kept for two minutes. Each takes a file descriptor and 20 kB. When
    # these run out, the other ports and probes of the process stop answering, too.
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.max_allowed_incoming_connections", _MAX_CONNECTIONS),
    # Nothing comes compressed: gRPC unpacks a message before anybody knows whose it is, a thousandfold,
    # and takes the memory from no budget. Bit 0: as it is.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    # Otherwise two processes would silently share a port. A port in use must be an error.
    ("grpc.so_reuseport", 0),
)


def member_credentials(tls: Tls) -> grpc.ServerCredentials:
    """mTLS between services: the own certificate; a client must show one of some member's TLS CA."""
    return server_credentials(tls, b"\n".join(member.ca_file.read_bytes() for member in tls.members))


def server_credentials(tls: Tls, client_roots: bytes | None) -> grpc.ServerCredentials:
    """The own certificate; clients must show one of `client_roots` (PEM), or none when that is None."""
    pair = (tls.key_file.read_bytes(), tls.certificate_file.read_bytes())
    return grpc.ssl_server_credentials(
        [pair], root_certificates=client_roots, require_client_auth=client_roots is not None
    )


class GrpcServer:
    """One gRPC server. A service that offers different things on different ports makes several.

    config                    listen address and TLS, unless `address` and `credentials` say otherwise
    default_deadline_seconds  for unary-response calls whose client sets none
    max_message_bytes         of one request; over it: CODE_TOO_LARGE naming the limit
    max_running               calls being answered at a time, and streams as many again; more are refused with
                              CODE_RESOURCE_EXHAUSTED
    max_running_per_source    of them, from one address; for ports where callers show no certificate
    max_per_connection        calls of one connection at a time: HTTP/2 makes its client wait with more
    read_ahead_bytes          of a stream that is not read: then flow control stops its sender. None: what
                              gRPC finds that the line can hold, megabytes on a quick one
    reflection_offered        whether it tells its services to whoever asks
    """

    def __init__(
        self,
        config: ServiceConfig,
        life: Lifecycle,
        *,
        address: str | None = None,
        credentials: grpc.ServerCredentials | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        default_deadline_seconds: float = 30.0,
        max_running: int = 2_000,
        max_running_per_source: int | None = None,
        max_per_connection: int = _MAX_STREAMS,
        read_ahead_bytes: int | None = None,
        reflection_offered: bool = True,
    ) -> None:
        self._life = life
        self._reflection_offered = reflection_offered
        self._health = clock.TellsTime()
        self._names: list[str] = []
        self._ports: list[tuple[str, grpc.ServerCredentials]] = []
        self._server = grpc.aio.server(
            interceptors=(
                MeshInterceptor(
                    life.metrics,
                    PeerDirectory.of(config.msp_id, config.tls),
                    default_deadline_seconds=default_deadline_seconds,
                    max_message_bytes=max_message_bytes,
                    max_running=max_running,
                    max_running_per_source=max_running_per_source,
                ),
            ),
            options=[
                *message_options(max_message_bytes),
                ("grpc.max_concurrent_streams", max_per_connection),
                *_OPTIONS,
                *_window(read_ahead_bytes),
            ],
        )
        self.ports: list[int] = []
        """Bound ports, in the order in which they were given; filled by `start`."""
        self.add_port(address or config.listen_address, credentials or member_credentials(config.tls))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def add(self, add_to_server: Callable[[Any, Any], None], servicer: object) -> None:
        """`server.add(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, servicer)`"""
        add_to_server(servicer, _Recorder(self._server, self._names))

    def add_port(self, address: str, credentials: grpc.ServerCredentials) -> None:
        """Listen on another port too, with the same services."""
        self._ports.append((address, credentials))

    async def start(self) -> None:
        """Bind and accept. Raises MeshError naming the address when a port is taken."""
        await self._set_health(serving=False)
        if self._reflection_offered:
            reflection.enable_server_reflection(
                [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
            )
        for address, credentials in self._ports:
            try:
                self.ports.append(self._server.add_secure_port(address, credentials))
            except RuntimeError as exc:
                raise cannot_bind(address) from exc
        await self._server.start()
        self._life.spawn("grpc-health", self._follow_readiness())

    async def stop(self, grace_seconds: float) -> None:
        """Say NOT_SERVING, refuse new calls, let running ones finish, then close."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)

    async def _follow_readiness(self) -> None:
        while True:
            report = await self._life.readiness.report()
            await self._set_health(serving=report.ready)
            await asyncio.sleep(_HEALTH_EVERY_SECONDS)

    async def _set_health(self, *, serving: bool) -> None:
        answer = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *self._names):
            await self._health.set(name, answer)


class _Recorder:
    """Stands in for the server while a service is added, to learn its name."""

    def __init__(self, server: Any, names: list[str]) -> None:
        self._server = server
        self._names = names

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.ServiceRpcHandler, ...]) -> None:
        self._names.extend(handler.service_name() for handler in handlers)
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service_name: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service_name, handlers)


def _window(read_ahead_bytes: int | None) -> list[tuple[str, int]]:
    if read_ahead_bytes is None:
        return []
    return [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", read_ahead_bytes)]
