"""Two gateways of one member, over its real NATS: a session is served by either, a proof by one alone."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol.ids import uuid7
from tests.contract.gateway_app import (
    ENGINE,
    App,
    about_the_patient,
    issue,
    ready_to_write,
    running_app,
)
from tests.contract.gateway_calls import refusal
from tests.contract.gateway_member import another_gateway
from tests.support.nats_server import NatsServer
from tests.support.pki import Consortium
from tests.support.waiting import until

_ORIGIN = "https://gateway.mercy:7414"


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


@pytest.fixture
async def nats_server(tmp_path: Path, consortium: Consortium) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats", consortium)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def app(tmp_path: Path, consortium: Consortium, nats_server: NatsServer) -> AsyncIterator[App]:
    """An application of a member with one public address and two gateways behind it."""
    async with running_app(
        tmp_path, consortium=consortium, nats_url=nats_server.url, public_origin=_ORIGIN
    ) as app:
        app.origin = _ORIGIN
        yield app


@pytest.fixture
async def places(app: App) -> AsyncIterator[tuple[str, str]]:
    """Where the two gateways listen."""
    async with another_gateway(app.member) as second:
        await until(lambda: answers(app, second.rest_address), "both share a bucket", 10)
        yield app.member.config.rest_address, second.rest_address


async def answers(app: App, place: str) -> bool:
    """Whether a gateway admits anybody yet."""
    app.at = place
    await app.login()
    return (await app.get(f"/fhir/Observation/{uuid7()}"))[0] == 403


async def test_whoever_logged_in_at_one_gateway_reads_and_writes_at_the_other(
    app: App, places: tuple[str, str]
) -> None:
    app.at = places[0]
    await ready_to_write(app)

    app.at = places[1]

    async def wrote() -> bool:
        return (await app.send("POST", "/fhir/Observation", about_the_patient()))[0] == 201

    await until(wrote, "the second gateway's device is known too", 10)
    _, _, headers = await app.send("POST", "/fhir/Observation", about_the_patient())
    path = headers["Location"].removeprefix(_ORIGIN)
    for app.at in places:
        assert (await app.get(path))[0] == 200


async def test_a_proof_that_one_gateway_has_seen_is_refused_by_the_other(
    app: App, places: tuple[str, str]
) -> None:
    await app.login()
    path = f"/fhir/Observation/{uuid7()}"
    for first, second in (places, places[::-1]):
        proof = app.key.proof("GET", _ORIGIN + path, app.token)
        app.at = first
        assert (await app.get(path, proof=proof))[0] == 403  # admitted: there is no delegation
        for app.at in (second, first):
            status, body, _ = await app.get(path, proof=proof)
            assert (status, "used before" in issue(body)["diagnostics"]) == (401, True)


async def test_of_one_proof_sent_to_both_at_the_same_moment_one_gets_in(
    app: App, places: tuple[str, str]
) -> None:
    await app.login()
    path = f"/fhir/Observation/{uuid7()}"
    for _ in range(10):
        proof = app.key.proof("GET", _ORIGIN + path, app.token)
        both = [App(app.member, app.http, app.key, app.token, _ORIGIN, place) for place in places]
        got = await asyncio.gather(*(one.get(path, proof=proof) for one in both))
        assert sorted(status for status, _, _ in got) == [401, 403]


async def test_a_logout_at_one_gateway_ends_the_session_at_both(app: App, places: tuple[str, str]) -> None:
    app.at = places[0]
    await app.login()
    path = f"/fhir/Observation/{uuid7()}"
    async with app.http.post(f"https://{places[1]}/v1/session/logout", json={}) as answer:
        assert answer.status == 401
    assert (await app.get(path))[0] == 403

    app.at = places[1]
    assert (await app.send("POST", "/v1/session/logout", {}))[0] == 200

    for app.at in places:
        status, body, _ = await app.get(path)
        assert (status, "ended" in issue(body)["diagnostics"]) == (401, True)
    await app.login()
    for app.at in places:
        assert (await app.get(path))[0] == 403, "a new session is another one"


async def test_without_nats_rest_stands_still_with_a_delay_and_grpc_goes_on(
    app: App, places: tuple[str, str], nats_server: NatsServer
) -> None:
    await app.login()
    path = f"/fhir/Observation/{uuid7()}"
    used = app.key.proof("GET", _ORIGIN + path, app.token)
    app.at = places[0]
    assert (await app.get(path, proof=used))[0] == 403
    await nats_server.kill()

    for app.at in places:
        status, body, headers = await app.get(path)
        assert (status, issue(body)["code"], int(headers["Retry-After"])) == (503, "transient", 1)
    caller = app.member.session(ENGINE)
    stub = gateway_pb2_grpc.CommandServiceStub(caller.channel)
    asked = stub.GetReceipt(gateway_pb2.GetReceiptRequest(command_id=uuid7()), metadata=caller.metadata)
    assert (await refusal(asked))[0] == "NOT_FOUND"
    async with app.http.get(f"{app.base}/readyz") as answer:
        assert orjson.loads(await answer.read())["ready"]

    await nats_server.start()
    app.at = places[1]

    async def admitted() -> bool:
        return (await app.get(path))[0] == 403

    await until(admitted, "both find the new bucket", 20)
    # Its memory is gone; what was made before it is not admitted by who has not seen it either.
    assert (await app.get(path, proof=used))[0] == 503
