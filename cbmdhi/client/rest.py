"""FHIR over REST, as a plain FHIR application would use it: a token bound to a DPoP key (RFC 9449).

Such a caller cannot sign each command. At login the wallet signs a delegation, bounded in actions, purposes
and time; within it the gateway's registered device signs, decrypts and answers, and the channel says so.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from joserfc import jwt
from joserfc.jwk import ECKey

from cbmdhi.client import receipts, rest_answers, tracing
from cbmdhi.client.connection import Connection
from cbmdhi.client.rest_answers import NotAnAnswer, Stored
from cbmdhi.client.tokens import Issued, Tokens
from cbmdhi.client.trail import Trail
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, Misuse, Unproven, name_of
from cbmdhi.protocol import command, json_text, proof, signature
from cbmdhi.protocol.consortium import Member
from cbmdhi.protocol.ids import uuid7
from cbmdhi.wallet import Wallet

T = TypeVar("T")

_log = logging.getLogger("cbmdhi.client")

_DEADLINE = aiohttp.ClientTimeout(total=30)
_LONGEST_DELEGATION_SECONDS = 12 * 3600
# Two tokens' time: a session that goes on signs a new one when the last does not outlive the next token.
_DELEGATION_SECONDS = 600
_NO_ANSWER = (aiohttp.ClientError, TimeoutError)
# As many as a logout takes.
_REVOKED_AT_ONCE = 16
_MOST_ANSWERED = 10_000


class FhirSession:
    """A session at one member's REST interface. Enter it to log in."""

    def __init__(
        self,
        wallet: Wallet,
        member: Member,
        *,
        actions: Sequence[str] = ("read", "history"),
        purposes: Sequence[str] = ("TREAT",),
        patients: Sequence[str] = (),
        lifetime_seconds: int = _DELEGATION_SECONDS,
    ) -> None:
        """
        patients          addresses of those whose data the session is about, at most 64; none: all whom the
                          wallet may serve
        lifetime_seconds  of what the gateway's device may do without hearing from the wallet; a session that
                          goes on renews it
        """
        if not 0 < lifetime_seconds <= _LONGEST_DELEGATION_SECONDS:
            raise ValueError("a delegation holds for at most 12 hours")
        self._wallet, self._member = wallet, member
        self._actions, self._purposes, self._patients = actions, purposes, patients
        self._lifetime = lifetime_seconds
        self._key = ECKey.generate_key("P-256")
        self._tokens = Tokens(self._issued)
        self._is_open = False
        # Of the last token: a delegation that outlives another one of that kind goes into that too.
        self._token_seconds = 0.0
        # Every delegation of this session that may still be valid, the newest last.
        self._delegations: list[pb.Delegation] = []
        self._http: aiohttp.ClientSession | None = None
        # Over which writes are proven.
        self._proofs: Connection | None = None
        # Commands that were the answer to a write: each is of one.
        self._answered: dict[str, None] = {}

    async def __aenter__(self) -> FhirSession:
        context = ssl.create_default_context(cadata=self._member.tls_ca_pem)
        async with AsyncExitStack() as opened:
            self._http = await opened.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context), timeout=_DEADLINE, raise_for_status=False
                )
            )
            await self._tokens.get()
            self._is_open = True
            opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            try:
                try:
                    await self.logout()
                except MeshError as why:
                    # What cannot be told now ends by itself, soon.
                    _log.warning(
                        "what the session delegated ends by itself, within %d s: %s", self._lifetime, why
                    )
            finally:
                await self._tokens.close()
                await self._http.close()
                if self._proofs is not None:
                    await self._proofs.close()

    async def logout(self) -> None:
        """End the session: the wallet revokes its delegations on the channel, and the gateway forgets them.

        Leaving `async with` does so too, and goes on where it fails. Raises MeshError; Unproven when the
        gateway does not prove that the channel holds the revocations: until then the delegations may go on.
        """
        if not self._tokens.current and not self._delegations:
            return
        self._is_open, wallet = False, self._wallet
        self._forget_ended()
        revocations: list[pb.SignedCommand] = []
        for one in self._delegations:
            body = pb.RevokeDelegation(
                delegation_id=one.delegation_id, delegator=wallet.address, expires_at_ms=one.expires_at_ms
            )
            revocations.append(
                wallet.sign_command(command.make(body, channel=wallet.consortium.signed_channel))
            )
        token = self._tokens.current if self._tokens.renews_in else ""
        self._tokens.forget()
        for start in range(0, max(len(revocations), 1), _REVOKED_AT_ONCE):
            portion = revocations[start : start + _REVOKED_AT_ONCE]
            # Each logout ends its token.
            token = token or (await self._login(with_delegation=False)).token
            body = {"revocations": [_base64(signed.SerializeToString()) for signed in portion]}
            await self._json("POST", "/v1/session/logout", body, token)
            token = ""
        await self._prove(revocations)
        self._delegations.clear()

    def _grpc(self) -> Connection:
        """A connection over which revocations and writes are proven; to be closed."""
        return Connection(self._wallet, self._member)

    async def _prove(self, revocations: Sequence[pb.SignedCommand]) -> None:
        """That the channel holds them. Raises Unproven."""
        if not revocations:
            return
        connection = self._grpc()
        try:
            for signed in revocations:
                entry, _ = await receipts.held(connection, signed, signed)
                # A conflict says that it was ended before.
                if entry.code not in (code_pb2.CODE_OK, code_pb2.CODE_CONFLICT):
                    why = f"it says ended and the members' peers hold {name_of(entry.code)}"
                    raise Unproven(why, [signed], is_forged=True)
        finally:
            await connection.close()

    @property
    def token(self) -> str:
        """The access token; it is worth nothing without `dpop_key`. Empty before the login."""
        return self._tokens.current

    @property
    def dpop_key(self) -> ECKey:
        """The key that proves each request: for another program that goes on with this session."""
        return self._key

    async def read(self, resource_type: str, record_id: str, version: int = 0) -> dict[str, Any]:
        """GET /fhir/TYPE/ID, the latest version, or that version of it.

        Raises MeshError with the outcome's code and sentence.

            observation = await session.read("Observation", record_id)
        """
        path = f"/fhir/{resource_type}/{record_id}" + (f"/_history/{version}" if version else "")
        return rest_answers.document((await self._authorised("GET", path, None, {}))[0])

    async def create(self, resource: dict[str, Any]) -> Stored:
        """POST /fhir/TYPE: a new record, committed and replicated. Its patient is who the resource names, as
        `Patient/<address>`. The session needs the action `write`, and TREAT among its purposes.

        That it is committed is proven by the members' peers, see `Stored`. Raises MeshError. UNKNOWN_OUTCOME,
        and INTEGRITY where a proof is none, leave open whether it was written: `update` with an id of your
        own can be sent again.
        """
        stored = await self._store("POST", f"/fhir/{resource.get('resourceType')}", resource, {})
        return await self._proven(stored, resource)

    async def update(self, resource: dict[str, Any], after: int | None = None) -> Stored:
        """PUT /fhir/TYPE/ID: the next version of the record that has the resource's id, a UUIDv7.

        after  the version that it follows, 0 for the first: then nothing doubles when it is sent again, and
               MeshError CONFLICT says that this version is there. None: whichever is next
        """
        condition = {} if after is None else {"If-Match": f'W/"{after}"'} if after else {"If-None-Match": "*"}
        path = f"/fhir/{resource.get('resourceType')}/{resource.get('id')}"
        stored = await self._store("PUT", path, resource, condition)
        if stored.record_id != resource.get("id") or after not in (None, stored.version - 1):
            raise _unproven("it is another version or record than was asked for", is_forged=True)
        return await self._proven(stored, resource)

    async def bundle(self, document: dict[str, Any]) -> dict[str, Any]:
        """POST /fhir: a transaction, of which all is written or nothing, or a batch. Gives the answer, a
        Bundle with what became of each entry. Raises as `create` does; entries that PUT under ids of their
        own, with `ifNoneMatch` or `ifMatch`, can be sent again.

        What it says of each entry is the gateway's word. `cbmdhi verify` and `verify_receipts` check the
        transaction and command in its `response.outcome`.
        """
        return await self._written(
            "POST", "/fhir", document, {}, lambda answer, _: rest_answers.document(answer)
        )

    async def _written(
        self,
        method: str,
        path: str,
        document: Any,
        headers: dict[str, str],
        reading: Callable[[Any, Mapping[str, str]], T],
    ) -> T:
        """What `reading` makes of the answer. Raises MeshError, UNKNOWN unless something else is certain."""
        try:
            return reading(*await self._authorised(method, path, document, headers))
        except MeshError as error:
            if isinstance(error.__cause__, aiohttp.ClientConnectorError):
                error.outcome = code_pb2.OUTCOME_NOT_DONE  # it was not even asked
            if error.nothing_done:
                raise
            if isinstance(error.__cause__, _NO_ANSWER):
                raise _unknown("the answer was lost") from error
            if isinstance(error.__cause__, NotAnAnswer):
                raise _unknown(error.reason) from error
            error.outcome = error.outcome or code_pb2.OUTCOME_UNKNOWN
            raise

    async def _proven(self, stored: Stored, resource: dict[str, Any]) -> Stored:
        """What the gateway says is stored, once the members' peers say so too. Raises MeshError.

        The command is one that this wallet delegated, of this record and of the resource's patient, and was
        not the answer to something else.
        """
        if self._proofs is None:
            self._proofs = self._grpc()
        try:
            checked = await Trail(self._proofs).checked(stored.command_id)
            found = checked.command(stored.command_id)
            body = command.body_of(found.signed)[1]
        except (proof.ProofError, command.MalformedCommand) as error:
            raise _unproven(f"what it gave as proof is none ({error})", is_forged=True) from error
        except MeshError as error:
            raise _unproven(f"it gave no proof ({error})") from error
        is_ours = found.who.author == self._wallet.address and found.entry.code == code_pb2.CODE_OK
        place = (stored.record_id, stored.version)
        if not is_ours or not isinstance(body, pb.PutRecord) or (body.record_id, body.version) != place:
            raise _unproven("its proof is of something else", is_forged=True)
        if f"Patient/{body.patient}".encode() not in json_text.dump(resource):
            raise _unproven("its proof is of another patient", is_forged=True)
        if stored.command_id in self._answered:
            raise _unproven("it said the same of an earlier one", is_forged=True)
        self._answered[stored.command_id] = None
        while len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]
        return replace(stored, tx_id=found.entry.tx_id)

    async def _store(self, method: str, path: str, resource: Any, headers: dict[str, str]) -> Stored:
        return await self._written(
            method, path, resource, headers, lambda _, answered: rest_answers.stored(answered)
        )

    async def _authorised(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[Any, Mapping[str, str]]:
        """With the session's token; once more with a new one when that was refused, before anything was done.

        Raises MeshError before the login and after the logout.
        """
        if not self._is_open:
            raise MeshError(
                code_pb2.CODE_INVALID,
                "enter the session first: `async with client.fhir(…)`",
                outcome=code_pb2.OUTCOME_NOT_DONE,
            )
        token = await self._token_or_nothing_done()
        try:
            return await self._request(method, path, body, token, headers)
        except MeshError as error:
            if error.code != code_pb2.CODE_UNAUTHENTICATED or error.outcome == code_pb2.OUTCOME_UNKNOWN:
                raise
        self._tokens.forget(token)
        return await self._request(method, path, body, await self._token_or_nothing_done(), headers)

    async def _token_or_nothing_done(self) -> str:
        """Whatever became of a login, what is to be asked has not left."""
        try:
            return await self._tokens.get()
        except MeshError as error:
            error.outcome = code_pb2.OUTCOME_NOT_DONE
            raise

    async def _issued(self) -> Issued:
        return await self._login()

    async def _login(self, *, with_delegation: bool = True) -> Issued:
        address = self._wallet.address
        challenge = rest_answers.challenge(
            await self._json("POST", "/v1/session/challenge", {"address": address})
        )
        thumbprint = self._key.thumbprint()
        body: dict[str, Any] = {
            "address": address,
            "challenge": challenge.text,
            "signature": _base64(self._wallet.sign(signature.LOGIN, challenge.raw, thumbprint.encode())),
            "dpop_jkt": thumbprint,
        }
        delegated = self._delegation(challenge.device) if with_delegation else None
        if delegated is not None:
            delegation = delegated.SerializeToString(deterministic=True)
            signed = self._wallet.sign(signature.DELEGATION, delegation)
            body["delegation"] = {"delegation": _base64(delegation), "signature": _base64(signed)}
        token, seconds = rest_answers.issued(await self._json("POST", "/v1/session", body))
        self._token_seconds = seconds
        if delegated is not None:
            # Nothing can be done with a token whose delegation has ended.
            seconds = min(seconds, delegated.expires_at_ms / 1000 - time.time())
        return Issued(token, seconds)

    def _delegation(self, device: str) -> pb.Delegation:
        """What the device may do. Noted before it is sent: an answer that is lost may have been a login."""
        now_ms = time.time_ns() // 1_000_000
        self._forget_ended()
        last = self._delegations[-1] if self._delegations else None
        if last and last.delegate == device and last.expires_at_ms - now_ms >= self._token_seconds * 1000 > 0:
            return last
        channel = self._wallet.consortium.signed_channel
        delegation = pb.Delegation(
            delegation_id=uuid7(),
            channel=channel.name,
            genesis_sha256=channel.genesis_sha256,
            delegator=self._wallet.address,
            delegate=device,
            actions=self._actions,
            purposes=self._purposes,
            patients=self._patients,
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + self._lifetime * 1000,
        )
        self._delegations.append(delegation)
        return delegation

    def _forget_ended(self) -> None:
        now_ms = time.time() * 1000
        self._delegations = [one for one in self._delegations if one.expires_at_ms > now_ms]

    async def _json(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        return (await self._request(method, path, body, token, {}))[0]

    async def _request(
        self, method: str, path: str, body: Any, token: str, wanted: dict[str, str]
    ) -> tuple[Any, Mapping[str, str]]:
        """The answer as JSON (None when it is empty) and its headers."""
        if self._http is None:
            raise MeshError(code_pb2.CODE_INVALID, "enter the session first: `async with FhirSession(…)`")
        url = self._member.gateway.rest + path
        headers = {"DPoP": self._proof(method, url, token), **tracing.headers(), **wanted}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if token:
            headers["Authorization"] = f"DPoP {token}"
        try:
            async with self._http.request(
                method, url, data=_body(body), headers=headers, allow_redirects=False
            ) as response:
                raw = await response.read()
                return rest_answers.read(response.status, response.headers, raw), response.headers
        except _NO_ANSWER as error:
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE, "the gateway's REST interface did not answer"
            ) from error

    def _proof(self, method: str, url: str, token: str) -> str:
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self._key.as_dict(private=False)}
        claims = {"htm": method, "htu": url, "iat": int(time.time()), "jti": uuid7()}
        if token:
            claims["ath"] = _base64(hashlib.sha256(token.encode()).digest())
        return jwt.encode(header, claims, self._key)


def _body(value: Any) -> bytes | None:
    """As JSON; a decimal with its digits. Raises Misuse."""
    try:
        return None if value is None else json_text.dump(value)
    except json_text.NotJson as error:
        raise Misuse(f"the resource {error}") from error


def _unknown(why: str) -> MeshError:
    return MeshError(
        code_pb2.CODE_UNKNOWN_OUTCOME,
        f"{why}: it may have been written",
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )


def _unproven(why: str, *, is_forged: bool = False) -> MeshError:
    return MeshError(
        code_pb2.CODE_INTEGRITY if is_forged else code_pb2.CODE_UNKNOWN_OUTCOME,
        f"the gateway says that it is written, but {why}: it may or may not be; look for the record at "
        "another member's gateway before it is written anew",
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
