"""What a FHIR session makes of answers that are none: a MeshError, with what is certain and a sentence."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from cbmdhi.client.rest import FhirSession
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.protocol.consortium import Member
from cbmdhi.protocol.ids import uuid7
from cbmdhi.wallet import Wallet
from tests.support.fakes.rest_gateway import CHALLENGE, LOGIN, Answer, RestGateway
from tests.unit.cbmdhi.client.test_fhir_session import Keys

RECORD = uuid7()
RESOURCE = {"resourceType": "Observation", "id": RECORD}
STORED = {
    "Location": f"https://gateway.example/fhir/Observation/{RECORD}/_history/1",
    "Cbmdhi-Transaction": "ab" * 32,
    "Cbmdhi-Command": uuid7(),
    "Cbmdhi-Block": "7",
}


async def _logs_in() -> Issued:
    return Issued("token", 300)


@asynccontextmanager
async def session_at(gateway: RestGateway, *, is_logged_in: bool = True) -> AsyncIterator[FhirSession]:
    member = SimpleNamespace(gateway=SimpleNamespace(rest=gateway.url))
    session = FhirSession(cast(Wallet, Keys()), cast(Member, member))
    async with aiohttp.ClientSession() as session._http:
        if is_logged_in:
            session._tokens = Tokens(_logs_in)
        session._is_open = True
        yield session
        await session._tokens.close()


async def written(answer: Answer) -> list[MeshError]:
    """What each kind of write makes of it."""
    failed: list[MeshError] = []
    async with RestGateway(answer).serving() as gateway, session_at(gateway) as session:
        for write in (
            lambda: session.create(RESOURCE),
            lambda: session.update(RESOURCE),
            lambda: session.bundle({"resourceType": "Bundle"}),
        ):
            with pytest.raises(MeshError) as caught:
                await write()
            failed.append(caught.value)
    return failed


async def read(answer: Answer) -> MeshError:
    async with RestGateway(answer).serving() as gateway, session_at(gateway) as session:
        with pytest.raises(MeshError) as caught:
            await session.read("Observation", RECORD)
    return caught.value


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_nothing_follows_a_gateway_to_where_it_points(status: int) -> None:
    async with RestGateway().serving() as elsewhere:
        away = Answer(status=status, headers={"Location": f"{elsewhere.url}/fhir/Observation"})
        for error in (*await written(away), await read(away)):
            assert "not followed" in error.reason
            assert error.code in (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.CODE_INTEGRITY)
        async with RestGateway().serving() as gateway:
            for path in tuple(gateway.answers):
                gateway.answers[path] = Answer(status=status, headers={"Location": f"{elsewhere.url}{path}"})
                async with session_at(gateway, is_logged_in=False) as session:
                    with pytest.raises(MeshError, match="not followed"):
                        await session.read("Observation", RECORD)
                gateway.answers[path] = RestGateway().answers[path]
    assert elsewhere.asked == []


async def test_a_write_that_is_sent_elsewhere_may_be_done_whatever_is_said_beside_it() -> None:
    said = {"Location": "https://elsewhere.example", "Cbmdhi-Outcome": "NOT_DONE"}
    for error in await written(Answer(status=307, headers=said)):
        assert (error.code, error.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)


UNREADABLE = [
    Answer(b"", 500),
    Answer(b"", 502),
    Answer(b"<html>Bad Gateway</html>", 502),
    Answer([1], 500),
    Answer("x", 400),
    Answer({"resourceType": "OperationOutcome"}, 500),
    Answer({"resourceType": "OperationOutcome", "issue": []}, 500),
    Answer({"resourceType": "OperationOutcome", "issue": [{"details": "x", "diagnostics": 5}]}, 500),
    Answer({"resourceType": "OperationOutcome", "issue": "x"}, 500),
    Answer({"code": 5, "reason": ["x"]}, 400),
    Answer({"code": "CODE_OK", "reason": "x"}, 400),
    Answer({"error": "upstream"}, 503),
    Answer(b"\xff\xfe", 200),
    Answer([1], 200),
    Answer(b"[" * 100_000, 200),
]


@pytest.mark.parametrize("answer", UNREADABLE, ids=repr)
async def test_a_write_whose_answer_cannot_be_read_may_be_done(answer: Answer) -> None:
    for error in await written(answer):
        assert (error.code, error.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)
        assert "may have been written" in error.reason


@pytest.mark.parametrize("answer", UNREADABLE, ids=repr)
async def test_a_reading_whose_answer_cannot_be_read_is_an_error_with_a_sentence(answer: Answer) -> None:
    error = await read(answer)
    expected = code_pb2.CODE_UNAVAILABLE if answer.status >= 500 else code_pb2.CODE_INTEGRITY
    assert error.code == expected
    assert "the gateway" in error.reason


@pytest.mark.parametrize(
    "changed",
    [
        {"Location": None},
        {"Location": ""},
        {"Location": "/a/b/_history/1"},
        {"Location": f"/fhir/Observation/{RECORD}/_history/one"},
        {"Location": f"/fhir/Observation/{RECORD}/_history/" + "9" * 5000},
        {"Location": f"/fhir/Observation/{RECORD}"},
        {"Cbmdhi-Transaction": None},
        {"Cbmdhi-Transaction": "ab"},
        {"Cbmdhi-Command": None},
        {"Cbmdhi-Command": "x"},
        {"Cbmdhi-Block": None},
        {"Cbmdhi-Block": "seven"},
        {"Cbmdhi-Block": "-1"},
        {"Cbmdhi-Block": "9" * 5000},
    ],
    ids=repr,
)
async def test_a_write_without_a_receipt_is_not_known_to_be_written(changed: dict[str, str | None]) -> None:
    headers = {name: value for name, value in {**STORED, **changed}.items() if value is not None}
    for error in (await written(Answer(status=201, headers=headers)))[:2]:
        assert (error.code, error.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)


async def test_what_a_gateway_refuses_without_saying_what_is_certain_may_be_done() -> None:
    refusal = {"code": "CODE_INTERNAL", "reason": "a fault"}
    for error in await written(Answer(refusal, 500)):
        assert (error.code, error.reason) == (code_pb2.CODE_INTERNAL, "a fault")
        assert error.outcome == code_pb2.OUTCOME_UNKNOWN
    [created, *_] = await written(Answer(refusal, 500, {"Cbmdhi-Outcome": "NOT_DONE"}))
    assert created.nothing_done


LOGINS: list[Any] = [
    [],
    "x",
    None,
    {},
    {"token": "t"},
    {"token": 5, "expires_in": 300},
    {"token": "", "expires_in": 300},
    {"token": "t\r\nX: y", "expires_in": 300},
    {"token": "t", "expires_in": "abc"},
    {"token": "t", "expires_in": "300"},
    {"token": "t", "expires_in": True},
    {"token": "t", "expires_in": None},
    {"token": "t", "expires_in": -1},
    {"token": "t", "expires_in": 0},
    {"token": "t", "expires_in": 0.001},
    {"token": "t", "expires_in": 1e308},
    b'{"token": "t", "expires_in": NaN}',
    b'{"token": "t", "expires_in": 1e999}',
    b'{"token": "t", "expires_in": ' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("login", LOGINS, ids=lambda one: re.sub("9{9,}", "9…", repr(one)))
async def test_a_login_that_gives_no_token_with_a_time_is_an_error_and_nothing_has_left(login: Any) -> None:
    async with RestGateway().serving() as gateway:
        gateway.answers["/v1/session"] = Answer(login)
        async with session_at(gateway, is_logged_in=False) as session:
            with pytest.raises(MeshError, match="the gateway") as caught:
                await session.create(RESOURCE)
    assert caught.value.nothing_done
    assert "/fhir/Observation" not in gateway.asked


@pytest.mark.parametrize(
    "challenge",
    [
        [],
        "x",
        {},
        {**CHALLENGE, "challenge": 5},
        {**CHALLENGE, "challenge": "é"},
        {**CHALLENGE, "challenge": "A"},
        {**CHALLENGE, "device": 5},
        {**CHALLENGE, "device": "mercy"},
        {"challenge": "AAAA"},
    ],
    ids=repr,
)
async def test_a_challenge_that_is_none_is_an_error_and_nothing_is_delegated(challenge: Any) -> None:
    async with RestGateway().serving() as gateway:
        gateway.answers["/v1/session/challenge"] = Answer(challenge)
        async with session_at(gateway, is_logged_in=False) as session:
            with pytest.raises(MeshError, match="the gateway"):
                await session.read("Observation", RECORD)
            assert session._delegations == []
    assert gateway.asked == ["/v1/session/challenge"]


async def test_a_login_that_is_one_gives_a_token_for_its_time() -> None:
    gateway = RestGateway(Answer(RESOURCE))
    async with gateway.serving(), session_at(gateway, is_logged_in=False) as session:
        assert await session.read("Observation", RECORD) == RESOURCE
        assert session.token == LOGIN["token"]
        assert 0 < session._tokens.renews_in < 300
