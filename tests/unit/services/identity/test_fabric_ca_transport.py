"""What an exchange with the Fabric CA does when the network, or what stands in it, misbehaves."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cbmdhi.command.v1 import code_pb2
from services.identity.fabric_ca_transport import Answer, Registrar, Transport
from services.runtime.telemetry import Metrics
from tests.support.fakes.fabric_ca import Wallet
from tests.support.fakes.identity_member import refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def transport_to(handler: Handler, *, seconds: float = 5.0) -> AsyncIterator[Transport]:
    app = web.Application()
    app.router.add_route("*", "/api/v1/{call}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session:
            yield Transport(session, f"http://{host}:{port}", Metrics("test"))
    finally:
        await runner.cleanup()


async def exchange(transport: Transport) -> Answer:
    return await transport.exchange("info", "POST", transport.url("cainfo"), b"{}")


class Flaky:
    """Drops the connection of the first `drops` requests, then answers."""

    def __init__(self, drops: int) -> None:
        self.drops = drops
        self.seen = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen += 1
        if self.seen <= self.drops:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"result": {"CAName": "ca"}, "errors": [], "success": True})


async def test_a_connection_lost_under_way_is_tried_once_more() -> None:
    ca = Flaky(drops=1)
    async with transport_to(ca.answer) as transport:
        assert (await exchange(transport)).result == {"CAName": "ca"}
    assert ca.seen == 2


async def test_a_connection_lost_again_is_unavailable_and_not_tried_for_ever() -> None:
    ca = Flaky(drops=1000)
    async with transport_to(ca.answer) as transport:
        error = await refused(exchange(transport))
        assert error.code == code_pb2.CODE_UNAVAILABLE
        assert ca.seen == 2
        for _ in range(20):
            await refused(exchange(transport))
    # The budget of retries is spent: one request a call, no more.
    assert ca.seen < 2 * 21


async def test_no_answer_within_the_deadline_is_unavailable() -> None:
    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with transport_to(silent, seconds=0.1) as transport:
        assert (await refused(exchange(transport))).code == code_pb2.CODE_UNAVAILABLE


async def test_a_proxy_that_answers_for_an_absent_ca_is_an_answer_of_its_status() -> None:
    async def proxy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>Bad Gateway</html>")

    async with transport_to(proxy) as transport:
        assert (await exchange(transport)).status == 502


async def test_an_answer_that_is_not_a_cas_is_a_fault_of_the_operator() -> None:
    for body in ("<html>welcome</html>", "[]", '{"errors": [7]}', "x" * 1024 * 1024):

        async def other(_: web.Request, body: str = body) -> web.StreamResponse:
            return web.Response(text=body)

        async with transport_to(other) as transport:
            assert (await refused(exchange(transport))).code == code_pb2.CODE_INTERNAL


def test_the_registrars_token_signs_method_uri_body_and_certificate_with_low_s() -> None:
    wallet = Wallet()
    for _ in range(8):  # half of all signatures would have a high s
        token = Registrar(b"the certificate", wallet.key).token("PUT", "/api/v1/identities/x?ca=ca", b"{}")
        certificate, signed = token.split(".")
        assert base64.b64decode(certificate) == b"the certificate"
        uri, body = (base64.b64encode(part).decode() for part in (b"/api/v1/identities/x?ca=ca", b"{}"))
        message = f"PUT.{uri}.{body}.{certificate}".encode()
        raw = base64.b64decode(signed)
        wallet.key.public_key().verify(raw, message, ec.ECDSA(hashes.SHA256()))
        assert (
            decode_dss_signature(raw)[1]
            <= 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551 // 2
        )
