"""What a FHIR session makes of answers that are none: a MeshError, with what is certain and a sentence."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest

from cbmdhi.client.connection import Connection
from cbmdhi.client.rest import FhirSession
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, RecordVersion
from cbmdhi.errors import MeshError
from cbmdhi.protocol import command
from cbmdhi.protocol.consortium import Member
from cbmdhi.protocol.ids import uuid7
from cbmdhi.protocol.state_keys import audit_key
from cbmdhi.wallet import Wallet
from tests.support.channel import CHANNEL
from tests.support.fakes.rest_gateway import CHALLENGE, LOGIN, Answer, RestGateway
from tests.unit.cbmdhi.client.test_fhir_session import PATIENT, Keys, Proving

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


@dataclass
class Writing:
    """A wallet with a session at a gateway that says of a write what it likes, and proves what there is."""

    gateway: RestGateway
    session: FhirSession
    keys: Keys

    def __post_init__(self) -> None:
        committed = self.keys.committed
        self.author, self.device, self.stranger = committed.people[0], committed.person(), committed.person()
        self.session._grpc = lambda: cast(Connection, Proving(self.keys))  # type: ignore[method-assign]

    def commit(self, **changed: Any) -> RecordVersion:
        """A version that the gateway's device wrote for the wallet."""
        author = changed.pop("author", self.author)
        wanted = {"record_id": RECORD, "patient": PATIENT, "device": self.device}
        wanted |= {"delegation": author.lets(self.device.address, "write")} | changed
        return self.keys.committed.put(author, b"c" * 32, **wanted)

    def says(self, record: RecordVersion, version: int = 1, **changed: str) -> None:
        """That this is what it wrote."""
        headers = {**STORED, "Cbmdhi-Command": record.command_id, **changed}
        headers["Location"] = f"/fhir/Observation/{record.record_id}/_history/{version}"
        self.gateway.other = Answer(status=201, headers=headers)


@pytest.fixture
async def writing() -> AsyncIterator[Writing]:
    async with RestGateway().serving() as gateway, session_at(gateway) as session:
        yield Writing(gateway, session, cast(Keys, session._wallet))
        if session._proofs is not None:
            await session._proofs.close()


OF_PATIENT = {**RESOURCE, "subject": {"reference": f"Patient/{PATIENT}"}}


async def test_what_is_written_is_what_the_members_peers_hold(writing: Writing) -> None:
    record = writing.commit()
    writing.says(record, **{"Cbmdhi-Transaction": "cd" * 32})
    stored = await writing.session.update(OF_PATIENT, after=0)
    assert (stored.record_id, stored.version, stored.command_id) == (RECORD, 1, record.command_id)
    # The transaction is the peers' word.
    assert stored.tx_id == "ab" * 32
    another = writing.commit(record_id=uuid7())
    writing.says(another)
    assert (await writing.session.create(OF_PATIENT)).record_id == another.record_id


async def refused(writing: Writing, write: str = "create", *more: int) -> MeshError:
    with pytest.raises(MeshError, match="the gateway says that it is written, but") as caught:
        await getattr(writing.session, write)(OF_PATIENT, *more)
    assert caught.value.outcome == code_pb2.OUTCOME_UNKNOWN
    return caught.value


async def test_nothing_is_stored_that_nobody_holds(writing: Writing) -> None:
    writing.says(RecordVersion(record_id=RECORD, command_id=uuid7()))
    assert "is none" in (await refused(writing)).reason


async def test_nothing_is_stored_that_the_gateway_does_not_prove(writing: Writing) -> None:
    class Silent(Proving):
        async def enrolled(self, method: Any, request: Any) -> Any:
            raise MeshError(code_pb2.CODE_NOT_FOUND, "there is none")

    writing.session._grpc = lambda: cast(Connection, Silent(writing.keys))  # type: ignore[method-assign]
    writing.says(writing.commit())
    assert (await refused(writing)).code == code_pb2.CODE_UNKNOWN_OUTCOME


async def test_what_another_wrote_is_no_proof(writing: Writing) -> None:
    writing.says(writing.commit(author=writing.stranger))
    assert "something else" in (await refused(writing)).reason


async def test_what_was_written_of_another_patient_or_version_is_no_proof(writing: Writing) -> None:
    writing.says(writing.commit(patient="cb1" + "q" * 32))
    assert "another patient" in (await refused(writing)).reason
    writing.says(writing.commit(), version=2)
    assert "something else" in (await refused(writing)).reason


async def test_another_command_is_no_proof_of_a_write(writing: Writing) -> None:
    signed = writing.author.signer.sign_command(
        command.make(pb.Access(patient=PATIENT, record_id=RECORD, version=1), channel=CHANNEL)
    )
    entry = writing.keys.committed.enter(signed)
    writing.says(RecordVersion(record_id=RECORD, command_id=entry.command_id))
    assert "something else" in (await refused(writing)).reason


async def test_a_refused_write_is_no_written_one(writing: Writing) -> None:
    record = writing.commit()
    key = audit_key(record.command_id, writing.device.address)
    entry = AuditEntry.FromString(writing.keys.committed.values[key])
    entry.code = code_pb2.CODE_FORBIDDEN
    writing.keys.committed.values[key] = entry.SerializeToString()
    writing.says(record)
    assert "something else" in (await refused(writing)).reason


async def test_one_write_is_not_the_answer_to_two(writing: Writing) -> None:
    writing.says(writing.commit())
    await writing.session.create(OF_PATIENT)
    assert "an earlier one" in (await refused(writing)).reason


async def test_an_update_of_another_record_or_version_is_none(writing: Writing) -> None:
    writing.says(writing.commit(record_id=uuid7()))
    assert "another version or record" in (await refused(writing, "update")).reason
    writing.says(writing.commit())
    assert "another version or record" in (await refused(writing, "update", 1)).reason
