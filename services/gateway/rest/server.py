"""The HTTPS server: limits, headers, errors; then the routes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import perf_counter
from typing import Any

import orjson
import structlog
from aiohttp import web
from opentelemetry.trace import SpanKind

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain.source import Sources
from services.gateway.rest import outcome
from services.gateway.rest.connection_limit import ConnectionLimit
from services.gateway.rest.fhir import CONTENT_TYPE
from services.gateway.rest.request_slots import SLOT, RequestSlots
from services.runtime import telemetry, tracing
from services.runtime.config import Tls
from services.runtime.deadline import current_deadline
from services.runtime.errors import MeshError, cannot_bind, code_name, guarded, outcome_name, to_http
from services.runtime.readiness import Readiness
from services.runtime.telemetry import Metrics
from services.runtime.throttle import Throttle

_log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY_BYTES = 16 * 1024 * 1024
_ANSWER_SECONDS = 25.0
_KEEPALIVE_SECONDS = 30.0
_HANDSHAKE_SECONDS = 5.0
_BACKLOG = 1_024
# Of a body that nobody wanted: then its connection is closed.
_LINGER_SECONDS = 1.0
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Server": "cbmdhi",
}
_CODES: dict[int, tuple[int, str]] = {
    404: (code_pb2.CODE_NOT_FOUND, "there is nothing at this address"),
    405: (code_pb2.CODE_INVALID, "this method is not offered here"),
    412: (
        code_pb2.CODE_CONFLICT,
        "the latest version is another than the request names: read it, and decide",
    ),
    413: (code_pb2.CODE_TOO_LARGE, f"a body has at most {MAX_BODY_BYTES} bytes (16 MiB): send less at once"),
    415: (
        code_pb2.CODE_INVALID,
        "a body is application/fhir+json or application/json, in UTF-8 and not compressed",
    ),
}


class RestServer:
    """`start`, then `stop(grace_seconds)`: what runs is finished."""

    def __init__(
        self,
        *,
        address: str,
        tls: Tls,
        readiness: Readiness,
        metrics: Metrics,
        routes: Iterable[web.AbstractRouteDef],
        drain_seconds: float,
        sources: Sources,
        connections: ConnectionLimit,
        anonymous_slots: RequestSlots,
        anonymous: Mapping[str, Throttle],
    ) -> None:
        """
        anonymous_slots  for requests whose headers say nothing of their sender
        anonymous        the routes that take such, each with how often a source may ask; all others
                         authenticate before anything of a body is read
        """
        self._address = address
        self._tls = tls
        self._readiness = readiness
        self._sources, self._connections, self._anonymous_slots = sources, connections, anonymous_slots
        self._anonymous = anonymous
        self._requests = metrics.counter("rest_requests", "REST requests, by outcome", ("route", "code"))
        self._seconds = metrics.histogram("rest", "seconds", "Time to answer over REST", ("route",))
        self._listener: asyncio.Server | None = None
        # No path, query or address of a caller is logged: there is no access log.
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._around])
        app.add_routes(
            [
                web.get("/healthz", self._healthz, name="healthz"),
                web.get("/readyz", self._readyz, name="readyz"),
                *routes,
            ]
        )
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            shutdown_timeout=drain_seconds,
            handle_signals=False,
            lingering_time=_LINGER_SECONDS,
            # Not before anybody knows whose it is, and there is memory for it: see `Bodies`.
            auto_decompress=False,
        )
        self.port = 0

    async def start(self) -> None:
        """Bind and accept. Raises MeshError naming the address when it is taken."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._tls.certificate_file, self._tls.key_file)
        await self._runner.setup()
        host, _, port = self._address.rpartition(":")
        server = self._runner.server
        if server is None:
            raise MeshError(code_pb2.CODE_INTERNAL, "the HTTP server was not set up")
        self._connections.count_those_of(server)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                server,
                host.strip("[]"),
                int(port),
                ssl=context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                backlog=_BACKLOG,
            )
        except OSError as exc:
            raise cannot_bind(self._address) from exc
        self.port = int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, grace_seconds: float) -> None:
        """Accept nothing more; let what runs finish."""
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()

    @web.middleware
    async def _around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = (resource.name if resource is not None else None) or "unknown"
        method = f"rest.{route}"
        parent = tracing.extract(request.headers)
        code = "CANCELLED"
        started = perf_counter()
        with tracing.span(method, parent=parent, kind=SpanKind.SERVER) as span:
            try:
                response = await self._answer(request, handler, route)
                code = "OK"
                return response
            except MeshError as err:
                code = code_name(err.code)
                span.fail(err.code)
                _log.info("rest.refused", method=method, code=code)
                return _error(request, err)
            finally:
                self._requests.labels(route, code).inc()
                self._seconds.labels(route).observe(perf_counter() - started, telemetry.exemplar())

    async def _answer(self, request: web.Request, handler: Handler, route: str) -> web.StreamResponse:
        if (throttle := self._anonymous.get(route)) is not None:
            source = self._sources.of(request.remote or "", request.headers.getall("X-Forwarded-For", []))
            throttle.take(source)
            request[SLOT] = self._anonymous_slots.take(source)
        current_deadline.set(asyncio.get_running_loop().time() + _ANSWER_SECONDS)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await guarded(_within_http(handler, request), "rest.crashed")
        except TimeoutError as exc:
            # What was handed on meanwhile goes on: part of a Bundle may be committed.
            raise MeshError(
                code_pb2.CODE_DEADLINE_EXCEEDED,
                f"not answered within {_ANSWER_SECONDS:g} s, and may be done: look before you write it "
                "again, or send it in smaller parts",
                outcome=code_pb2.OUTCOME_UNKNOWN,
            ) from exc
        finally:
            if (slot := request.get(SLOT)) is not None:
                slot.leave()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _json(200, {"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        """Yes or no, for whoever asks; why is said on the port for the operator."""
        ready = (await self._readiness.report()).ready
        return _json(200 if ready else 503, {"ready": ready})


async def _within_http(handler: Handler, request: web.Request) -> web.StreamResponse:
    """aiohttp's own refusals (no route, no such method, too large) are answered as ours are."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        code, reason = _CODES.get(exc.status, (code_pb2.CODE_INVALID, "the request cannot be understood"))
        response = _error(request, MeshError(code, reason, outcome=_certain(exc)))
        response.set_status(exc.status)
        if isinstance(exc, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(exc.allowed_methods))
        return response


def _certain(exc: web.HTTPException) -> int:
    """What the channel said, where it is that which is told otherwise; else nothing was begun."""
    cause = exc.__cause__
    return cause.outcome if isinstance(cause, MeshError) else code_pb2.OUTCOME_NOT_DONE


def _error(request: web.Request, err: MeshError) -> web.Response:
    status, body = to_http(err)
    is_fhir = request.path.startswith("/fhir")
    response = _json(status, outcome.of_error(err) if is_fhir else body)
    if is_fhir:
        response.content_type = CONTENT_TYPE
    if err.outcome:
        response.headers[outcome.OUTCOME_HEADER] = outcome_name(err.outcome)
    if err.retry_after_ms:
        response.headers["Retry-After"] = str(-(-err.retry_after_ms // 1000))
    if status == 401:
        response.headers["WWW-Authenticate"] = 'DPoP algs="ES256"'
    return response


def _json(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
