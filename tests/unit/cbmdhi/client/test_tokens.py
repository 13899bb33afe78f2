"""A session goes on for days: its token is renewed in time, once, at its own moment, and nobody waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from cbmdhi.client.backoff import Backoff
from cbmdhi.client.connection import Connection
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, NotSent, UnknownOutcome, to_be_sent
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from services.runtime.errors import MeshError as OfService
from services.runtime.errors import to_status
from tests.support.waiting import until


class Identity:
    """Gives tokens, as long as it is there; counts them."""

    def __init__(self, seconds: float = 300.0) -> None:
        self.seconds, self.given, self.now = seconds, 0, 0.0
        self.is_away = False
        self.held = asyncio.Event()
        self.held.set()

    def clock(self) -> float:
        return self.now

    async def login(self) -> Issued:
        await self.held.wait()
        if self.is_away:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "away")
        self.given += 1
        return Issued(f"token-{self.given}", self.seconds)

    def tokens(self, seed: int = 0) -> Tokens:
        return Tokens(self.login, clock=self.clock, chance=random.Random(seed))  # noqa: S311 - a draw


async def settled(tokens: Tokens) -> str:
    """The token once a renewal that goes on is done."""
    while True:
        token = await tokens.get()
        if (renewal := tokens._renewal) is None:
            return token
        await asyncio.wait({renewal})


async def test_a_token_is_renewed_before_it_ends_and_nobody_waits_for_that() -> None:
    identity = Identity()
    tokens = identity.tokens()
    assert await tokens.get() == "token-1"
    identity.now = 100
    assert await settled(tokens) == "token-1"
    identity.held.clear()
    identity.now = 250
    # Identity takes its time; the token that there is does.
    assert await asyncio.wait_for(tokens.get(), 1) == "token-1"
    identity.held.set()
    assert await settled(tokens) == "token-2"
    assert identity.given == 2


async def test_identity_may_be_away_at_the_renewal_as_long_as_the_token_is_good() -> None:
    identity = Identity()
    tokens = identity.tokens()
    await tokens.get()
    identity.is_away, identity.now = True, 250
    for now in range(250, 299, 7):
        identity.now = now
        assert await settled(tokens) == "token-1"
    identity.now = 300
    with pytest.raises(MeshError, match="away"):
        await tokens.get()
    identity.is_away = False
    assert await tokens.get() == "token-2"


async def test_a_thousand_clients_that_logged_in_together_do_not_renew_in_the_same_second() -> None:
    identity = Identity()
    moments = []
    for seed in range(1000):
        tokens = identity.tokens(seed)
        await tokens.get()
        moments.append(tokens.renews_in)
    assert 150 <= min(moments) < max(moments) <= 240
    most = max(sum(second <= one < second + 1 for one in moments) for second in range(150, 241))
    assert most < 30  # of 1,000 over 90 seconds


async def test_many_calls_whose_token_was_refused_log_in_once() -> None:
    identity = Identity()
    tokens = identity.tokens()
    refused = await tokens.get()

    async def again() -> str:
        tokens.forget(refused)
        return await tokens.get()

    assert {await one for one in asyncio.as_completed([again() for _ in range(100)])} == {"token-2"}
    # One that hears late of the old token's refusal leaves the new one.
    tokens.forget(refused)
    assert await tokens.get() == "token-2"
    assert identity.given == 2


async def test_who_gives_up_waiting_does_not_end_the_login_for_the_others() -> None:
    identity = Identity()
    identity.held.clear()
    tokens = identity.tokens()
    impatient, patient = asyncio.create_task(tokens.get()), asyncio.create_task(tokens.get())
    await asyncio.sleep(0)
    impatient.cancel()
    identity.held.set()
    assert await patient == "token-1"
    assert identity.given == 1


async def test_waits_grow_by_chance_and_end_when_it_was_said() -> None:
    now = 0.0
    waits = Backoff(60.0, clock=lambda: now, chance=random.Random(1))  # noqa: S311 - a draw
    told = []
    while not waits.is_over(wait := waits.next()):
        told.append(wait)
        now += wait
    assert 0.1 <= told[0] <= 0.2
    assert max(told) <= 10
    assert 45 < now <= 60
    waits.reset()
    assert waits.next(5.0) > 5.0


class RefusingGateway(gateway_pb2_grpc.CommandServiceServicer):
    """Takes one token; answers by turns."""

    def __init__(self, *answers: OfService | grpc.StatusCode) -> None:
        self.answers, self.tokens = [*answers], []

    async def Submit(self, request: Any, context: Any) -> Any:
        self.tokens.append(dict(context.invocation_metadata())["authorization"])
        answer = self.answers.pop(0)
        if isinstance(answer, grpc.StatusCode):
            await context.abort(answer, "RST_STREAM")
        status = to_status(answer)
        await context.abort(status.code, status.details, status.trailing_metadata)


class Open(Connection):
    """A connection whose logins are an identity's."""

    def __init__(self, channel: grpc.aio.Channel, login: Callable[[], Awaitable[Issued]]) -> None:
        member = SimpleNamespace(tls_ca_pem="", name="mercy", gateway=None)
        super().__init__(SimpleNamespace(), member, 5.0, first_contact=channel)  # type: ignore[arg-type]
        self._authenticated = channel
        self.tokens = Tokens(login)


_REFUSED = OfService(
    code_pb2.CODE_UNAUTHENTICATED, "the token has expired", outcome=code_pb2.OUTCOME_NOT_DONE
)
_BUSY = OfService(code_pb2.CODE_TOO_LARGE, "less at once", outcome=code_pb2.OUTCOME_NOT_DONE)


async def submitted(gateway: RefusingGateway, identity: Identity) -> MeshError:
    server = grpc.aio.server()
    gateway_pb2_grpc.add_CommandServiceServicer_to_server(gateway, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        connection = Open(channel, identity.login)
        stub = gateway_pb2_grpc.CommandServiceStub(channel)
        with pytest.raises(MeshError) as caught:
            await connection.call(stub.Submit, gateway_pb2.SubmitRequest())
    await server.stop(0)
    return caught.value


async def test_a_call_whose_token_has_ended_is_made_again_with_a_new_one_and_once_only() -> None:
    gateway = RefusingGateway(_REFUSED, _REFUSED)
    assert (await submitted(gateway, Identity())).code == code_pb2.CODE_UNAUTHENTICATED
    assert gateway.tokens == ["Bearer token-1", "Bearer token-2"]


async def test_a_new_token_does_not_make_undone_what_the_call_before_it_may_have_done() -> None:
    gateway = RefusingGateway(grpc.StatusCode.UNAVAILABLE, _REFUSED, _BUSY)
    error = await submitted(gateway, Identity())
    assert isinstance(to_be_sent(error, []), UnknownOutcome)
    assert len(gateway.tokens) == 3


async def test_what_waits_for_a_login_that_fails_was_not_sent() -> None:
    identity = Identity()
    identity.is_away = True
    gateway = RefusingGateway()

    async def cut() -> Issued:
        raise MeshError(code_pb2.CODE_INTERNAL, "cut", outcome=code_pb2.OUTCOME_UNKNOWN)

    identity.login = cut  # type: ignore[method-assign]
    assert isinstance(to_be_sent(await submitted(gateway, identity), []), NotSent)
    assert gateway.tokens == []


async def test_a_client_that_is_closed_while_it_logs_in_says_so() -> None:
    identity = Identity()
    identity.held.clear()
    tokens = identity.tokens()
    waiting = asyncio.create_task(tokens.get())
    await until(lambda: tokens._renewal is not None, "it logs in")
    await tokens.close()
    with pytest.raises(MeshError, match="closed"):
        await waiting
