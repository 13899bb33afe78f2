"""A FHIR session's delegations: short, renewed with the token, and ended by the wallet at the logout."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import grpc
import pytest

from cbmdhi.client.connection import Connection
from cbmdhi.client.rest import FhirSession
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Unproven
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.protocol import command, signature
from cbmdhi.protocol.consortium import Member
from cbmdhi.wallet import Wallet
from tests.support.fakes.evidence import Committed
from tests.support.waiting import free_port
from tests.unit.cbmdhi.client.test_reading import consortium_of

PATIENT = "cb1" + "p" * 32


@dataclass
class Keys:
    """As much of a wallet as logging in needs, and what the channel holds of what it signed."""

    committed: Committed = field(default_factory=Committed)

    def __post_init__(self) -> None:
        self.signer = self.committed.person().signer
        self.consortium = consortium_of(self.committed.network)

    @property
    def address(self) -> str:
        return self.signer.address

    @property
    def spki(self) -> bytes:
        return signature.spki(self.signer.private_key.public_key())

    def sign(self, label: str, *parts: bytes) -> bytes:
        return signature.sign(self.signer.private_key, label, *parts)

    def sign_command(self, raw: bytes) -> pb.SignedCommand:
        return self.signer.sign_command(raw)


@dataclass
class Proving:
    """The gateway's gRPC port: it gives what the peers sign."""

    wallet: Keys
    authenticated: Any = field(default_factory=lambda: grpc.aio.insecure_channel("127.0.0.1:1"))

    async def enrolled(self, method: Any, request: Any) -> Any:
        return gateway_pb2.GetProofResponse(evidence=self.wallet.committed.evidence())

    async def close(self) -> None:
        await self.authenticated.close()


class Session(FhirSession):
    """A session whose gateway is played: it gives tokens of `token_seconds`.

    lost     the answer of the next login is lost on its way
    refuses  tokens that the gateway does not take
    carries  whether what it is given at the logout gets to the channel
    """

    def __init__(self, token_seconds: float = 300.0, **more: Any) -> None:
        self.keys, self.token_seconds, self.lost, self.carries = Keys(), token_seconds, False, True
        self.logins, self.refuses = 0, set[str]()
        super().__init__(cast(Wallet, self.keys), cast(Member, None), **more)
        self.delegated: list[pb.Delegation] = []
        self.sent: list[tuple[str, str]] = []
        self.revoked: list[pb.RevokeDelegation] = []

    async def __aenter__(self) -> Session:
        await self._tokens.get()
        self._is_open = True
        return self

    async def _request(
        self, method: str, path: str, body: Any, token: str, wanted: dict[str, str]
    ) -> tuple[Any, Mapping[str, str]]:
        if path == "/v1/session/challenge":
            return {"challenge": text(b"challenge"), "device": "cb1" + "d" * 32}, {}
        if path == "/v1/session":
            if "delegation" in body:
                self.delegated.append(pb.Delegation.FromString(raw(body["delegation"]["delegation"])))
            if self.lost:
                raise MeshError(0, "the answer was lost")
            self.logins += 1
            # The member's clock is hours off: it says nothing to who is elsewhere.
            return {
                "token": f"token-{self.logins}",
                "expires_in": self.token_seconds,
                "expires_at_ms": 1,
            }, {}
        if token in self.refuses:
            raise MeshError(
                code_pb2.CODE_UNAUTHENTICATED, "the token has expired", outcome=code_pb2.OUTCOME_NOT_DONE
            )
        if path == "/v1/session/logout":
            assert len(body["revocations"]) <= 16
            for one in body["revocations"]:
                signed = pb.SignedCommand.FromString(raw(one))
                command.verify(signed, signature.spki(self.keys.signer.private_key.public_key()))
                if self.carries:
                    self.keys.committed.enter(signed)
                self.revoked.append(cast(pb.RevokeDelegation, command.body_of(signed)[1]))
        self.sent.append((path, token))
        return {}, {}

    def _grpc(self) -> Connection:
        return cast(Connection, Proving(self.keys))

    @property
    def ended(self) -> list[str]:
        return [one.delegation_id for one in self.revoked]


def text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def raw(content: str) -> bytes:
    return base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))


async def test_the_logout_ends_what_the_session_delegated() -> None:
    async with Session() as session:
        await session.read("Observation", "x")
        await session.logout()
    [delegation] = session.delegated
    assert session.ended == [delegation.delegation_id]
    assert session.revoked[0].delegator == delegation.delegator == session.keys.address
    assert session.revoked[0].expires_at_ms == delegation.expires_at_ms
    with pytest.raises(MeshError):
        await session.read("Observation", "x")


async def test_a_delegation_lasts_as_long_as_the_session_needs_it_and_no_shift_long() -> None:
    async with Session(patients=[PATIENT]) as session:
        [delegation] = session.delegated
    assert delegation.expires_at_ms - delegation.issued_at_ms == 600_000
    assert list(delegation.patients) == [PATIENT]


async def test_a_session_that_goes_on_renews_token_and_delegation_and_ends_them_all() -> None:
    # A delegation ends before another token would.
    async with Session(token_seconds=300, lifetime_seconds=100) as session:
        for _ in range(3):
            session._tokens.forget()
            await session.read("Observation", "x")
        await session.logout()
    tokens = [token for path, token in session.sent if path.startswith("/fhir/")]
    assert len(set(tokens)) == 3
    assert session.ended == [one.delegation_id for one in session.delegated]
    assert len(session.ended) == 4


async def test_a_delegation_goes_into_each_token_that_it_outlives_and_the_logout_takes_them_all() -> None:
    async with Session(token_seconds=300, lifetime_seconds=1000) as session:
        for ago_seconds in (300, 500, 300):
            session._tokens.forget()
            for kept in session._delegations:
                kept.expires_at_ms -= ago_seconds * 1000
            await session.read("Observation", "x")
        # Of 1,000 s, 700 are left, then 200, which is no token's life; so there is a second.
        assert len({one.delegation_id for one in session.delegated}) == 2
        session._delegations += [
            pb.Delegation(delegation_id=f"d{n}", expires_at_ms=1 << 60) for n in range(40)
        ]
        await session.logout()
    # The first has ended by itself.
    assert len(session.ended) == 41


async def test_a_session_whose_delegation_ends_before_its_token_goes_on_with_another() -> None:
    async with Session(token_seconds=300, lifetime_seconds=1) as session:
        assert session._tokens.renews_in < 1


async def test_a_token_that_is_refused_is_renewed_without_a_word() -> None:
    async with Session() as session:
        session.refuses = {"token-1"}
        reads = [asyncio.create_task(session.read("Observation", "x")) for _ in range(5)]
        await asyncio.gather(*reads)
        assert session.logins == 2
        # A gateway that takes none is not asked for ever.
        session.refuses = {f"token-{number}" for number in range(10)}
        with pytest.raises(MeshError, match="expired"):
            await session.update({"resourceType": "Observation", "id": "x"})
        assert session.logins == 3
        session.refuses = set()


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take a request, and end the line."""
    await reader.read(65536)
    writer.close()


@asynccontextmanager
async def asking(rest: str, login: Callable[[], Awaitable[Issued]]) -> AsyncIterator[FhirSession]:
    member = SimpleNamespace(gateway=SimpleNamespace(rest=rest))
    session = FhirSession(cast(Wallet, Keys()), cast(Member, member))
    async with aiohttp.ClientSession() as session._http:
        session._tokens, session._is_open = Tokens(login), True
        yield session


async def logs_in() -> Issued:
    return Issued("token", 300)


async def failure(asked: Awaitable[Any]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await asked
    # A type that can be named in an `except` of the caller's own.
    assert type(caught.value) is MeshError
    return caught.value


RESOURCE = {"resourceType": "Observation", "id": "x"}


async def test_an_answer_that_is_lost_is_an_error_that_its_caller_can_name() -> None:
    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asking(f"http://127.0.0.1:{port}", logs_in) as session:
        assert (await failure(session.read("Observation", "x"))).code == code_pb2.CODE_UNAVAILABLE
        written = await failure(session.update(RESOURCE))
    assert (written.code, written.outcome) == (code_pb2.CODE_UNKNOWN_OUTCOME, code_pb2.OUTCOME_UNKNOWN)


async def test_what_was_not_even_asked_is_not_done_and_says_so_in_an_error_that_can_be_named() -> None:
    async with asking(f"http://127.0.0.1:{free_port()}", logs_in) as session:
        written = await failure(session.update(RESOURCE))
    assert (written.code, written.outcome) == (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_NOT_DONE)


async def test_a_write_whose_login_has_no_answer_has_not_left() -> None:
    async def lost() -> Issued:
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "did not answer") from aiohttp.ServerDisconnectedError()

    async with asking("http://127.0.0.1:1", lost) as session:
        written = await failure(session.update(RESOURCE))
    assert (written.code, written.outcome) == (code_pb2.CODE_UNAVAILABLE, code_pb2.OUTCOME_NOT_DONE)


async def test_what_ended_by_itself_is_not_revoked() -> None:
    async with Session(lifetime_seconds=1) as session:
        session.delegated.clear()
        for kept in session._delegations:
            kept.expires_at_ms -= 1_000
        await session.logout()
    assert session.ended == []


async def test_a_login_whose_answer_was_lost_is_ended_too() -> None:
    session = Session()
    session.lost = True
    with pytest.raises(MeshError):
        await session._login()
    session.lost = False
    await session.logout()
    assert session.ended == [session.delegated[0].delegation_id]


async def test_a_gateway_that_never_carried_the_revocations_does_not_pass_for_one_that_did(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = Session()
    await session._login()
    session.carries = False
    with pytest.raises(Unproven) as caught:
        await session.logout()
    assert len(caught.value.again) == 1
    # Not forgotten: a logout may be sent again.
    session.carries = True
    await session.logout()
    assert session.ended == [session.delegated[0].delegation_id] * 2

    async with Session() as session:
        session._http = cast(Any, Proving(session.keys))
        session.carries = False
    assert "ends by itself, within 600 s" in caplog.text
