"""Admission: whether a call may go on, and on whose behalf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain import session as sessions_rules
from services.gateway.domain.session import Session
from services.gateway.metrics import GatewayMetrics
from services.gateway.rpc.routes import Authentication, Route
from services.gateway.sessions.client_certificates import ClientCertificate, ClientCertificates
from services.gateway.sessions.sessions import Sessions
from services.runtime.callers import Caller
from services.runtime.errors import MeshError

T = TypeVar("T")

_BEARER = "Bearer "
ENROLLED = "enrolled"
"""In place of a role: who has a certificate, and no registration that anybody looked at."""


class Admission:
    """Decides by the route's row, the connection's certificate and the token. Raises MeshError."""

    def __init__(self, certificates: ClientCertificates, sessions: Sessions, metrics: GatewayMetrics) -> None:
        self._certificates = certificates
        self._sessions = sessions
        self._metrics = metrics

    async def admit(self, route: Route, context: Any) -> Caller | Session | None:
        """The caller, with a session where one is needed; None for anyone. Metadata of the caller's is not
        passed on."""
        match route.authentication:
            case Authentication.ANONYMOUS:
                return None
            case Authentication.ENROLLED:
                certificate = self._identity_certificate(context)
                return Caller(certificate.name, ENROLLED, certificate.identity_of)
            case Authentication.SERVICE:
                self._require_service(self.certificate_of(context))
                return None
            case Authentication.SESSION:
                return await self._require_session(route, context)

    def certificate_of(self, context: Any) -> ClientCertificate | None:
        """What the connection shows; None on the port for first contact."""
        shown = context.auth_context().get("x509_pem_cert", [])
        return self._certificates.of_pem(bytes(shown[0])) if shown else None

    async def watched(self, session: Session, answers: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The answers of a stream, for as long as the session lasts: then its end is raised."""
        over = asyncio.create_task(self._sessions.over(session), name="session-watch")
        answer: asyncio.Future[T] | None = None
        try:
            while True:
                answer = asyncio.ensure_future(anext(answers))
                await asyncio.wait({answer, over}, return_when=asyncio.FIRST_COMPLETED)
                if over.done():
                    raise over.result()
                try:
                    message = answer.result()
                except StopAsyncIteration:
                    return
                yield message
        finally:
            await _end(over, answer)
            await answers.aclose()

    def _require_service(self, certificate: ClientCertificate | None) -> None:
        if certificate is None or not certificate.service_of:
            raise MeshError(
                code_pb2.CODE_FORBIDDEN,
                "this call is for services of the members: show a service's certificate",
            )

    def _identity_certificate(self, context: Any) -> ClientCertificate:
        certificate = self.certificate_of(context)
        if certificate is None or not certificate.identity_of:
            raise MeshError(
                code_pb2.CODE_UNAUTHENTICATED,
                "the connection shows no certificate of a member's CA for identities: "
                "enrol, and connect with it",
            )
        return certificate

    async def _require_session(self, route: Route, context: Any) -> Session:
        certificate = self._identity_certificate(context)
        try:
            session = await self._sessions.of_token(_token(context))
            sessions_rules.check_bound(session, sessions_rules.CERTIFICATE, certificate.thumbprint)
            if certificate.name != session.address:
                raise sessions_rules.unauthenticated("the certificate is not that of the token's subject")
            await self._sessions.check_active(session, or_takes_away=route.takes_away)
        except MeshError as err:
            self._metrics.not_admitted.labels(self._metrics.code(err.code)).inc()
            raise
        if route.roles and session.role not in route.roles:
            roles = ", ".join(sorted(route.roles))
            raise MeshError(code_pb2.CODE_FORBIDDEN, f"this call is for {roles}, not for {session.role}")
        return session


def _token(context: Any) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str) and value.startswith(_BEARER):
            return value.removeprefix(_BEARER)
    raise MeshError(
        code_pb2.CODE_UNAUTHENTICATED,
        "no token: log in, and send it as metadata `authorization: Bearer …`",
    )


async def _end(*tasks: asyncio.Future[Any] | None) -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
        for task in running:
            if not task.cancelled():
                task.exception()
