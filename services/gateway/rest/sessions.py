"""The sessions of REST: POST /v1/session/challenge and /v1/session log in (identity decides),
/v1/session/logout ends a session at every gateway of the member."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Protocol, cast

import orjson
from aiohttp import web
from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, SignedCommand, SignedDelegation
from cbmdhi.gateway.v1.gateway_pb2 import SubmitRequest, SubmitResponse
from cbmdhi.identity.v1 import identity_pb2
from cbmdhi.protocol import command
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.domain.session import Session
from services.gateway.rest.auth import Authentication
from services.gateway.rest.body import Bodies
from services.gateway.rest.request_slots import SLOT
from services.gateway.sessions.delegations import Delegations
from services.gateway.sessions.shared_state import SharedState
from services.runtime.errors import MeshError

_BODY_BYTES = 64 * 1024
# A session renews its delegation from time to time; those before may still be valid.
_MOST_REVOCATIONS = 16


class IdentityService(Protocol):
    """services.gateway.backends.identity, or a fake."""

    async def challenge(self, address: str) -> identity_pb2.ChallengeResponse: ...

    async def login(self, request: identity_pb2.LoginRequest) -> identity_pb2.LoginResponse: ...


class Commands(Protocol):
    """Submits a group (services.gateway.rpc.commands)."""

    async def submit(self, request: SubmitRequest, session: Session) -> SubmitResponse: ...


class SessionRoutes:
    """Challenge, login and logout. Bytes are unpadded base64url in JSON."""

    def __init__(
        self,
        identity: IdentityService,
        shared: SharedState,
        identities: IdentityCache,
        delegations: Delegations,
        commands: Commands,
        authentication: Authentication,
        bodies: Bodies,
        body_seconds: float,
    ) -> None:
        self._identity = identity
        self._shared = shared
        self._identities = identities
        self._delegations = delegations
        self._commands = commands
        self._authentication = authentication
        self._bodies = bodies
        self._body_seconds = body_seconds

    def routes(self) -> list[web.RouteDef]:
        """What to add to the application."""
        return [
            web.post("/v1/session/challenge", self.challenge, name="challenge"),
            web.post("/v1/session", self.login, name="login"),
            web.post("/v1/session/logout", self.logout, name="logout"),
        ]

    async def challenge(self, request: web.Request) -> web.Response:
        """`{address}` -> `{challenge, expires_at_ms, device, channel}`."""
        body = await self._object(request)
        answer = await self._identity.challenge(_text(body, "address"))
        return _answer(
            challenge=base64.urlsafe_b64encode(answer.challenge).rstrip(b"=").decode(),
            expires_at_ms=answer.expires_at_ms,
            device=answer.device,
            channel=answer.channel,
        )

    async def login(self, request: web.Request) -> web.Response:
        """`{address, challenge, signature, dpop_jkt, delegation?: {delegation, signature}}` -> `{token, …}`.

        The delegation goes into the token, which is worth nothing but to its key: whichever gateway is called
        knows it. A DPoP proof in the header, when there is one, must be of the same key.
        """
        body = await self._object(request)
        address, thumbprint = _text(body, "address"), _text(body, "dpop_jkt")
        if "DPoP" in request.headers and self._authentication.proof(request, None).thumbprint != thumbprint:
            raise MeshError(
                code_pb2.CODE_UNAUTHENTICATED, "the DPoP proof is of another key than dpop_jkt", "dpop_jkt"
            )
        delegation = _delegation(body.get("delegation"))
        if delegation is not None:
            self._delegations.check_form(delegation, address)
        # Whether somebody is registered, and how they stand, is told to who has their key: identity checks
        # the signatures, and answers everybody else alike.
        answer = await self._identity.login(
            identity_pb2.LoginRequest(
                address=address,
                challenge=_bytes(body, "challenge"),
                signature=_bytes(body, "signature"),
                dpop_jkt=thumbprint,
                delegation=delegation,
            )
        )
        if delegation is not None:
            await self._check(delegation, address)
        return _answer(
            token=answer.token,
            token_type="DPoP",  # noqa: S106 - the name of a scheme
            expires_in=answer.expires_in_seconds,
            expires_at_ms=answer.expires_at_ms,
        )

    async def logout(self, request: web.Request) -> web.Response:
        """`{revocations?: [SignedCommand, …]}` -> `{revoked}`.

        The session ends at every gateway of the member, whatever becomes of the rest. The caller's own signed
        RevokeDelegations are carried to the channel, after which no device acts within them.
        """
        session = await self._authentication.session(request)
        body = await self._object(request)
        revocations = _revocations(body.get("revocations", []), session.address)
        await self._shared.end(session.token_id)
        receipts = [
            (await self._commands.submit(SubmitRequest(group=CommandGroup(commands=[signed])), session))
            for signed in revocations
        ]
        for answer in receipts:
            receipt = answer.receipts[0].receipt
            # A conflict says that it was ended before: a logout may be sent again.
            if receipt.code not in (code_pb2.CODE_OK, code_pb2.CODE_CONFLICT):
                raise MeshError(receipt.code, receipt.reason, receipt.path, outcome=receipt.outcome)
        return _answer(revoked=len(revocations))

    async def _object(self, request: web.Request) -> dict[str, Any]:
        async with self._bodies.of(request, _BODY_BYTES, request[SLOT].whose, self._body_seconds) as raw:
            return _object(raw)

    async def _check(self, signed: SignedDelegation, address: str) -> None:
        delegator = await self._identities.get(address, 0.0)
        if delegator is None:
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "log in with a registered key", "address")
        self._delegations.check(signed, delegator)


def _delegation(given: object) -> SignedDelegation | None:
    if given is None:
        return None
    if not isinstance(given, dict):
        raise _invalid("delegation", "is {delegation, signature}")
    members = cast("dict[str, Any]", given)
    return SignedDelegation(delegation=_bytes(members, "delegation"), signature=_bytes(members, "signature"))


def _revocations(given: object, address: str) -> list[SignedCommand]:
    """RevokeDelegation commands, signed by the address in person. Raises MeshError."""
    path = "revocations"
    if not isinstance(given, list) or len(cast("list[object]", given)) > _MOST_REVOCATIONS:
        raise _invalid(path, f"is a list of at most {_MOST_REVOCATIONS}")
    found: list[SignedCommand] = []
    for text in cast("list[object]", given):
        try:
            signed = SignedCommand.FromString(_bytes({path: text}, path))
            name, _ = command.body_of(signed)
        except (DecodeError, command.MalformedCommand) as error:
            raise _invalid(path, "holds serialized SignedCommands") from error
        if name != "revoke_delegation" or signed.signer != address or signed.HasField("delegation"):
            raise _invalid(path, "holds RevokeDelegations that the caller signed in person")
        found.append(signed)
    return found


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _invalid("body", "is not JSON") from error
    if not isinstance(body, dict):
        raise _invalid("body", "is not a JSON object")
    return cast("dict[str, Any]", body)


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(name, "is required, as text")
    return value


def _bytes(body: dict[str, Any], name: str) -> bytes:
    text = _text(body, name)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(name, "is not base64url") from error


def _invalid(path: str, what: str) -> MeshError:
    return MeshError(code_pb2.CODE_INVALID, f"{path} {what}", path)


def _answer(**members: Any) -> web.Response:
    return web.Response(body=orjson.dumps(members), content_type="application/json")
