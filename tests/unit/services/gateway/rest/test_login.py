"""A login over REST tells strangers nothing: neither who is registered, nor who was suspended, and when."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import SignedDelegation
from cbmdhi.identity.v1 import identity_pb2
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.rest.request_slots import SLOT
from services.gateway.rest.sessions import SessionRoutes
from services.gateway.sessions.delegations import Delegations
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from tests.support.channel import CHANNEL
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import Person
from tests.support.fakes.token_service import b64
from tests.support.revoking import nobody

DEVICE = Person()
_NOT_SIGNED = "the signature is not that of a registered key"


class Entrance:
    """A gateway's door. Its identity service takes the login of whoever is in `signed`."""

    def __init__(self) -> None:
        self.ledger, self.signed = FakeLedger(), set[str]()
        routes = SessionRoutes(
            cast(Any, self),
            cast(Any, None),
            IdentityCache(self.ledger, nobody),
            Delegations(device=DEVICE.address, channel=CHANNEL),
            cast(Any, None),
            cast(Any, None),
            cast(Any, self),
            1.0,
        )
        self._login = routes.login
        self._body = b""

    async def login(self, request: identity_pb2.LoginRequest) -> identity_pb2.LoginResponse:
        if request.address not in self.signed:
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, _NOT_SIGNED, "signature")
        return identity_pb2.LoginResponse(token="token", expires_in_seconds=300)

    @asynccontextmanager
    async def of(self, *_: Any) -> AsyncIterator[bytes]:
        yield self._body

    async def asked(self, address: str, delegation: SignedDelegation) -> tuple[int, str, str]:
        """What a login is answered, where it is refused."""
        self._body = orjson.dumps(
            {
                "address": address,
                "challenge": "AAAA",
                "signature": "AAAA",
                "dpop_jkt": "A" * 43,
                "delegation": {
                    "delegation": b64(delegation.delegation),
                    "signature": b64(delegation.signature),
                },
            }
        )
        request: Any = _Request({SLOT: SimpleNamespace(whose="somebody")})
        with pytest.raises((MeshError, Refused)) as caught:
            await self._login(request)
        return caught.value.code, caught.value.reason, caught.value.path


class _Request(dict[str, Any]):
    headers: dict[str, str] = {}  # noqa: RUF012


def suspended(entrance: Entrance, person: Person) -> None:
    """Now, and in force again."""
    entrance.ledger.register(person)
    entrance.ledger.people[person.address].suspended_at_ms = time.time_ns() // 1_000_000 + 1_000


async def test_who_has_no_key_is_answered_alike_of_everybody() -> None:
    entrance = Entrance()
    active, was_suspended, unregistered = Person(), Person(), Person()
    entrance.ledger.register(active)
    suspended(entrance, was_suspended)
    answers: set[tuple[int, str, str]] = set()
    for person in (active, was_suspended, unregistered):
        made_up = person.delegate(DEVICE.address)
        made_up.signature = b"x" * 64
        answers.add(await entrance.asked(person.address, made_up))
    assert answers == {(code_pb2.CODE_UNAUTHENTICATED, _NOT_SIGNED, "signature")}
    assert entrance.ledger.asked_for == []


async def test_who_has_the_key_is_told_that_a_delegation_is_older_than_the_suspension() -> None:
    entrance, person = Entrance(), Person()
    suspended(entrance, person)
    entrance.signed.add(person.address)
    code, reason, _ = await entrance.asked(person.address, person.delegate(DEVICE.address))
    assert (code, "before its delegator's suspension" in reason) == (code_pb2.CODE_FORBIDDEN, True)
    made_up = person.delegate(DEVICE.address)
    made_up.signature = b"x" * 64
    code, _, _ = await entrance.asked(person.address, made_up)
    assert code == code_pb2.CODE_BAD_SIGNATURE


async def test_what_a_delegation_says_itself_is_told_before_anybody_is_looked_up() -> None:
    entrance, person = Entrance(), Person()
    code, _, path = await entrance.asked(person.address, person.delegate(Person().address))
    assert (code, path) == (code_pb2.CODE_FORBIDDEN, "delegation.delegate")
    assert entrance.ledger.asked_for == []
