"""Nobody is shut out by somebody else: drips, floods and crowds at REST and at first contact."""

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import code_name, from_rpc_error
from tests.contract.gateway_app import CLINICIAN, ENGINE, PATIENT, App, issue, ready_to_write, running_app
from tests.support.fakes.token_service import DpopKey
from tests.support.waiting import until

_ELSEWHERE = "127.0.0.2"
_PATH = f"/fhir/Observation/{uuid7()}"


@dataclass
class Drip:
    """A POST whose body never comes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def status(self) -> bytes:
        """Of its answer; empty when it was closed without one."""
        line = await asyncio.wait_for(self.reader.readline(), 15)
        return line.split()[1] if line else b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()


async def drip(
    app: App, opened: AsyncExitStack, path: str = "/v1/session/challenge", extra: str = ""
) -> Drip:
    host, _, port = app.member.config.rest_address.rpartition(":")
    context = ssl.create_default_context(cadata=app.member.tls_root.decode())
    made = Drip(*await asyncio.open_connection(host, int(port), ssl=context))
    opened.push_async_callback(made.close)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n{extra}"
    made.writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    await made.writer.drain()
    return made


def from_address(app: App, address: str) -> aiohttp.ClientSession:
    context = ssl.create_default_context(cadata=app.member.tls_root.decode())
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, local_addr=(address, 0)))


async def challenge(app: App, http: aiohttp.ClientSession, **headers: str) -> tuple[int, Any]:
    url = f"{app.base}/v1/session/challenge"
    async with http.post(url, json={"address": CLINICIAN.address}, headers=headers) as answer:
        await answer.read()
        return answer.status, answer.headers


async def test_dripping_strangers_shut_out_no_probe_no_caller_and_nobody_elsewhere(tmp_path: Path) -> None:
    async with running_app(tmp_path, rest_anonymous_body_seconds=4.0) as app, AsyncExitStack() as opened:
        await app.login()
        elsewhere = await opened.enter_async_context(from_address(app, _ELSEWHERE))
        drips = [await drip(app, opened) for _ in range(60)]

        async def crowded() -> bool:
            return (await challenge(app, app.http))[0] == 429

        await until(crowded, "their places are taken", 3)
        status, headers = await challenge(app, app.http)
        assert (status, int(headers["Retry-After"]) > 0) == (429, True)
        for probe in ("/healthz", "/readyz", "/fhir/metadata"):
            async with app.http.get(app.base + probe) as answer:
                assert answer.status == 200, probe
        assert (await app.get(_PATH))[0] == 403, "a caller is let in: there is no delegation"
        assert (await challenge(app, elsewhere))[0] == 200

        # Refused at once, or cut off when their time is over: none stays.
        assert {await one.status() for one in drips} == {b"429", b"504"}
        assert (await challenge(app, app.http))[0] == 200


async def test_a_body_of_who_does_not_say_who_they_are_is_not_waited_for(tmp_path: Path) -> None:
    async with running_app(tmp_path) as app, AsyncExitStack() as opened:
        for extra in ("", "Authorization: DPoP x\r\n", "Authorization: DPoP x\r\nDPoP: y\r\n"):
            one = await drip(app, opened, "/fhir/Observation", extra)
            assert await one.status() == b"401"
            assert await asyncio.wait_for(one.reader.read(), 10), "and then the connection is closed"


async def test_one_caller_with_many_requests_leaves_places_for_another(tmp_path: Path) -> None:
    async with running_app(tmp_path, rest_requests_per_caller=3) as app:
        await ready_to_write(app)
        other = App(app.member, app.http, DpopKey())
        await other.login(PATIENT.delegate(app.member.device.address), PATIENT)
        hold, asked = asyncio.Event(), asyncio.Event()
        record = app.member.ledger.record

        async def slow(record_id: str, version: int) -> Any:
            asked.set()
            await hold.wait()
            return await record(record_id, version)

        app.member.ledger.record = slow  # type: ignore[method-assign]
        waiting = [asyncio.create_task(app.get(_PATH)) for _ in range(3)]

        async def full() -> bool:
            status, body, _ = await app.get("/fhir/Observation/1")
            return status == 429 and issue(body)["code"] == "throttled"

        await until(full, "its places are taken", 5)
        assert (await other.get("/fhir/Observation/1"))[0] == 404
        hold.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [404] * 3
        assert (await app.get("/fhir/Observation/1"))[0] == 404


async def test_connections_are_counted_by_where_they_come_from(tmp_path: Path) -> None:
    async with running_app(tmp_path, rest_connections_per_source=8) as app, AsyncExitStack() as opened:
        elsewhere = await opened.enter_async_context(from_address(app, _ELSEWHERE))
        many = [await drip(app, opened) for _ in range(8)]
        assert await is_refused(app, opened)
        async with elsewhere.get(f"{app.base}/healthz") as answer:
            assert answer.status == 200
        for one in many:
            await one.close()

        async def free_again() -> bool:
            return not await is_refused(app, opened)

        await until(free_again, "what was closed counts no more", 5)


async def is_refused(app: App, opened: AsyncExitStack) -> bool:
    try:
        return await (await drip(app, opened, "/fhir/Observation")).status() == b""
    except OSError:
        return True


async def test_challenges_are_limited_by_source_and_only_a_trusted_proxys_word_counts(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"logins_at_once": 2, "logins_per_minute": 0.1}
    async with running_app(tmp_path, **settings) as app, AsyncExitStack() as opened:
        elsewhere = await opened.enter_async_context(from_address(app, _ELSEWHERE))
        got = [(await challenge(app, app.http, **{"X-Forwarded-For": f"192.0.2.{n}"}))[0] for n in range(4)]
        assert got == [200, 200, 429, 429]
        assert (await challenge(app, elsewhere))[0] == 200


async def test_behind_a_proxy_each_of_its_callers_is_a_source(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "logins_at_once": 2,
        "logins_per_minute": 0.1,
        "enrolments_at_once": 1,
        "enrolments_per_minute": 0.1,
        "trusted_proxies": ["127.0.0.0/8"],
        "rest_connections_per_source": 1,
    }
    async with running_app(tmp_path, **settings) as app:
        for caller in ("192.0.2.1", "192.0.2.2"):
            headers = {"X-Forwarded-For": f"198.51.100.9, {caller}"}
            assert [(await challenge(app, app.http, **headers))[0] for _ in range(3)] == [200, 200, 429]

        channel = app.member.connect()
        sessions = identity_pb2_grpc.SessionServiceStub(channel)
        enrolments = identity_pb2_grpc.EnrolmentServiceStub(channel)
        asked = identity_pb2.ChallengeRequest(address=ENGINE.address)

        async def code(call: Any) -> tuple[str, int]:
            try:
                await call
            except grpc.aio.AioRpcError as error:
                ours = from_rpc_error(error)
                return code_name(ours.code), ours.retry_after_ms
            return "OK", 0

        via = (("x-forwarded-for", "192.0.2.1"),)
        assert (await code(sessions.Challenge(asked, metadata=via)))[0] == "RESOURCE_EXHAUSTED"
        fresh = (("x-forwarded-for", "192.0.2.77"),)
        assert await code(sessions.Challenge(asked, metadata=fresh)) == ("OK", 0)
        csr = identity_pb2.EnrolRequest(csr_pem="x")
        answers = [await code(enrolments.Enrol(csr, metadata=fresh)) for _ in range(2)]
        assert [name for name, _ in answers] == ["INVALID", "RESOURCE_EXHAUSTED"]
        assert answers[1][1] > 1_000
        another = (("x-forwarded-for", "192.0.2.78"),)
        assert (await code(enrolments.Enrol(csr, metadata=another)))[0] == "INVALID"
