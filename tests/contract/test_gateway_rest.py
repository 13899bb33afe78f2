"""Sessions over HTTPS: DPoP, delegations, limits, readiness."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.message import Message

from cbmdhi.command.v1.command_pb2 import RevokeConsent, RevokeDelegation, SignedDelegation
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from tests.contract.gateway_app import (
    CLINICIAN,
    ENGINE,
    PATIENT,
    App,
    about_the_patient,
    issue,
    reading,
    ready_to_read,
    ready_to_write,
    running_app,
)
from tests.support.channel import ELSEWHERE, REUSED_NAME
from tests.support.fakes.gateway_backends import CHALLENGE
from tests.support.fakes.gateway_people import CHANNEL, Person, checker
from tests.support.fakes.token_service import DpopKey, b64
from tests.support.waiting import until

pytest_plugins = ("tests.contract.gateway_fixtures",)


async def test_a_proof_is_good_for_one_request(app: App) -> None:
    one = await ready_to_read(app)
    path = f"/fhir/Observation/{one.body.record_id}"
    await reading(app, path)
    proof = app.key.proof("GET", app.base + path, app.token)

    assert (await app.get(path, proof=proof))[0] == 200
    status, body, headers = await app.get(path, proof=proof)

    assert (status, issue(body)["code"]) == (401, "login")
    assert "used before" in issue(body)["diagnostics"]
    assert headers["WWW-Authenticate"].startswith("DPoP")


async def test_a_stolen_token_is_worth_nothing_without_its_key(app: App) -> None:
    await app.login()
    path, thief = f"/fhir/Observation/{uuid7()}", DpopKey()

    stolen = await app.get(path, proof=thief.proof("GET", app.base + path, app.token))
    elsewhere = await app.get(path, proof=app.key.proof("GET", app.base + "/fhir/metadata", app.token))
    plain = await app.get(path, Authorization=f"Bearer {app.token}")
    certificate_bound = app.member.tokens.token(CLINICIAN.address, {"x5t#S256": app.key.thumbprint})
    other = await app.get(
        path,
        proof=app.key.proof("GET", app.base + path, certificate_bound),
        Authorization=f"DPoP {certificate_bound}",
    )

    assert [answer[0] for answer in (stolen, elsewhere, plain, other)] == [401] * 4


_PUBLIC = "https://fhir.mercy.example/mesh"


@pytest.fixture
async def behind_a_proxy(tmp_path: Path) -> AsyncIterator[App]:
    """The proxy takes the prefix away, and connects under an address of its own."""
    async with running_app(tmp_path, public_origin=_PUBLIC + "/") as app:
        app.origin = _PUBLIC
        yield app


async def test_behind_a_proxy_proofs_and_locations_are_of_the_public_address(behind_a_proxy: App) -> None:
    app = behind_a_proxy
    await ready_to_write(app)

    status, _, headers = await app.send("POST", "/fhir/Observation", about_the_patient())

    assert (status, headers["Location"][: len(_PUBLIC)]) == (201, _PUBLIC)
    path = headers["Location"].removeprefix(_PUBLIC)
    assert (await app.get(path))[0] == 200
    async with app.http.get(f"{app.base}/fhir/metadata") as answer:
        assert orjson.loads(await answer.read())["implementation"]["url"] == f"{_PUBLIC}/fhir"


async def test_what_a_request_says_of_its_address_counts_for_nothing(behind_a_proxy: App) -> None:
    app = behind_a_proxy
    await ready_to_write(app)
    path, evil = f"/fhir/Observation/{uuid7()}", "https://evil.example"
    claims = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=evil.example;proto=https",
    }

    stolen = app.key.proof("GET", evil + path, app.token)
    for headers in ({}, claims, {"Host": "evil.example"}):
        status, body, _ = await app.get(path, proof=stolen, **headers)
        assert (status, "htu" in issue(body)["diagnostics"]) == (401, True)
        assert (await app.get(path, proof=app.key.proof("GET", app.base + path, app.token), **headers))[
            0
        ] == 401
        # Not found: let in, whatever the headers say.
        assert (await app.get(path, **headers))[0] == 404
    _, _, headers = await app.send("POST", "/fhir/Observation", about_the_patient(), **claims)
    assert headers["Location"].startswith(_PUBLIC)


async def test_a_second_way_in_is_named_to_the_gateway(tmp_path: Path) -> None:
    direct = "https://gateway.mercy:7414"
    async with running_app(tmp_path, public_origin=_PUBLIC, other_origins=[direct]) as app:
        await app.login()
        path = f"/fhir/Observation/{uuid7()}"
        for origin, status in ((_PUBLIC, 403), (direct, 403), ("https://gateway.mercy", 401)):
            app.origin = origin
            assert (await app.get(path))[0] == status, origin


async def test_a_suspended_person_is_refused_in_five_seconds(app: App) -> None:
    await app.login()
    path = f"/fhir/Observation/{uuid7()}"
    assert (await app.get(path))[0] == 403  # no delegation
    app.member.ledger.suspend(CLINICIAN)
    started = time.monotonic()

    async def refused() -> bool:
        _, body, _ = await app.get(path)
        return issue(body)["details"]["text"] == "INACTIVE_SIGNER"

    await until(refused, "the suspension is noticed", seconds=5)
    assert time.monotonic() - started < 5


async def test_challenge_and_login_pass_through_to_identity(app: App) -> None:
    status, challenge = await app.post("/v1/session/challenge", {"address": CLINICIAN.address})
    assert (status, challenge["challenge"], challenge["device"]) == (
        200,
        b64(CHALLENGE),
        app.member.device.address,
    )

    status, answer = await app.login()

    assert (status, answer["token_type"]) == (200, "DPoP")
    url = app.base + "/v1/session"
    status, answer = await app.post(
        "/v1/session",
        {
            "address": CLINICIAN.address,
            "challenge": "AA",
            "signature": "AA",
            "dpop_jkt": app.key.thumbprint,
        },
        DPoP=DpopKey().proof("POST", url, None),
    )
    assert (status, answer["path"]) == (401, "dpop_jkt")


async def test_after_the_logout_the_gateway_does_nothing_more_for_the_session(app: App) -> None:
    one = await ready_to_read(app)
    path = f"/fhir/Observation/{one.body.record_id}"
    await reading(app, path)
    carried = len(app.member.ledger.submitted)

    status, body, _ = await app.send("POST", "/v1/session/logout", {})
    assert (status, orjson.loads(body)) == (200, {"revoked": 0})

    status, body, _ = await app.get(path)
    assert (status, "ended" in issue(body)["diagnostics"]) == (401, True)
    assert len(app.member.ledger.submitted) == carried


async def test_a_logout_carries_the_callers_own_revocations_and_nothing_else(app: App) -> None:
    def ended(by: Person, body: Message) -> str:
        return b64(by.sign_command(command.make(body, channel=CHANNEL)).SerializeToString())

    await ready_to_read(app)
    revoked = RevokeDelegation(delegation_id=uuid7(), delegator=CLINICIAN.address, expires_at_ms=1)
    consent = RevokeConsent(consent_id=uuid7(), patient=PATIENT.address)
    carried = len(app.member.ledger.submitted)
    for bad in (
        "all",
        [7],
        ["?"],
        [b64(b"\xff")],
        [ended(CLINICIAN, consent)],
        [ended(ENGINE, revoked)],
        [ended(CLINICIAN, revoked)] * 17,
    ):
        status, _, _ = await app.send("POST", "/v1/session/logout", {"revocations": bad})
        assert status == 400, bad
    assert len(app.member.ledger.submitted) == carried

    body = {"revocations": [ended(CLINICIAN, revoked), ended(CLINICIAN, revoked)]}
    status, answer, _ = await app.send("POST", "/v1/session/logout", body)
    assert (status, orjson.loads(answer)) == (200, {"revoked": 2})
    sent = [one.item.group.commands[0] for batch in app.member.ledger.submitted[carried:] for one in batch]
    assert [command.body_of(signed) for signed in sent] == [("revoke_delegation", revoked)] * 2


async def test_delegations_that_are_not_the_callers_to_this_device_are_refused_at_login(app: App) -> None:
    device = app.member.device.address
    forged = CLINICIAN.delegate(device)
    forged.signature = PATIENT.delegate(device).signature
    bad = {
        "FORBIDDEN": CLINICIAN.delegate(ENGINE.address),
        "WRONG_CHANNEL": CLINICIAN.delegate(device, channel=ELSEWHERE),
        "EXPIRED": CLINICIAN.delegate(device, hours=13),
        "BAD_SIGNATURE": forged,
        "INVALID": SignedDelegation(delegation=b"\xff\xff", signature=b"x"),
    }

    begun_otherwise = CLINICIAN.delegate(device, channel=REUSED_NAME)

    for code, delegation in [*bad.items(), ("WRONG_CHANNEL", begun_otherwise)]:
        _, answer = await app.login(delegation)
        assert (answer["code"], app.token) == (code, "")
    _, answer = await app.login(PATIENT.delegate(device))
    assert answer["code"] == "FORBIDDEN"
    stranger = Person()
    _, answer = await app.login(stranger.delegate(device), stranger)
    assert answer["code"] == "UNAUTHENTICATED"


async def test_bad_bodies_get_a_code_and_a_path(app: App) -> None:
    for raw, path in ((b"{", "body"), (b"[]", "body"), (b"{}", "address"), (b'{"address":1}', "address")):
        status, answer = await app.post("/v1/session/challenge", raw)
        assert (status, answer["code"], answer["path"]) == (400, "INVALID", path)
    _, answer = await app.post("/v1/session", {"address": "x", "dpop_jkt": "y", "challenge": "*"})
    assert (answer["code"], answer["path"]) == ("INVALID", "challenge")

    for size in (65 * 1024, 17 * 1024 * 1024):
        status, answer = await app.post("/v1/session/challenge", b" " * size)
        assert (status, answer["code"]) == (413, "TOO_LARGE")
        assert "65536 bytes" in answer["reason"]


async def test_health_readiness_metadata_and_headers(app: App) -> None:
    async with app.http.get(f"{app.base}/healthz") as answer:
        assert answer.status == 200
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "cbmdhi"
    async with app.http.get(f"{app.base}/fhir/metadata") as answer:
        assert checker().check(await answer.read()) == "CapabilityStatement"
    assert await _readiness(app) == (200, {"ready": True})

    async def gone() -> str:
        return "away"

    # Another service's trouble is the operator's to know, and no reason to go off the air; one's own is.
    app.member.life.readiness.add("storage", gone)
    assert await _readiness(app) == (200, {"ready": True})
    app.member.life.readiness.add("disk", gone)
    assert await _readiness(app) == (503, {"ready": False}), "why is for the operator to know"
    report = await app.member.life.readiness.report()
    assert set(report.problems) >= {"clock", "ledger", "storage", "identity", "disk"}
    assert set(app.member.life.readiness.optional()) == {"notify"}


async def _readiness(app: App) -> tuple[int, Any]:
    async with app.http.get(f"{app.base}/readyz") as answer:
        return answer.status, orjson.loads(await answer.read())
