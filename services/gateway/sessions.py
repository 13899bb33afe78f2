"""Sessions: who a token stands for, and whether that identity is still active on the channel."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IdentityStatus
from services.gateway.domain import jose, session
from services.gateway.domain.session import Session
from services.gateway.identities import Identities
from services.gateway.refusals import refusals
from services.gateway.token_keys import TokenKeys
from services.runtime.errors import MeshError
from services.runtime.remembered import Remembered

# Suspended means refused within 5 s: at most 1 s until the next look, at a document at most 2 s old.
STATUS_SECONDS = 2.0
_LOOK_EVERY_SECONDS = 1.0
_LOOK_SECONDS = 2.0
_BLIND_SECONDS = 4.0


class Sessions:
    """Verifies tokens of the own member, and watches whoever is behind them. Raises MeshError."""

    def __init__(
        self,
        keys: TokenKeys,
        identities: Identities,
        *,
        own_msp: str,
        most: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._identities = identities
        self._own_msp = own_msp
        self._clock = clock
        self._verified: Remembered[bytes, Session] = Remembered(most)

    async def of_token(self, token: str) -> Session:
        """The session of a token; the binding is not checked here. Raises UNAUTHENTICATED, UNAVAILABLE."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and known.expires_at > self._clock():
            return known
        with refusals():
            try:
                key = await self._keys.key(jose.header(token).get("kid"))
                if key is None:
                    raise session.unauthenticated(
                        "the token is signed with a key that this member does not know: log in where you call"
                    )
                claims = jose.payload(token, key)
            except jose.Malformed as error:
                raise session.unauthenticated("the token is not one of this member's: log in") from error
            verified = session.of_claims(claims, self._own_msp, self._clock())
        self._verified.put(digest, verified)
        return verified

    async def check_active(self, of: Session) -> None:
        """Raises MeshError INACTIVE_SIGNER (suspended), UNAUTHENTICATED (token expired), UNAVAILABLE."""
        if of.expires_at <= self._clock():
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "the token has expired: log in again")
        document = await self._identities.get(of.address, STATUS_SECONDS)
        if document is None or document.status != IdentityStatus.IDENTITY_STATUS_ACTIVE:
            raise MeshError(
                code_pb2.CODE_INACTIVE_SIGNER,
                "this identity is not active any more (suspended or rejected): ask its hospital",
            )

    async def over(self, of: Session) -> MeshError:
        """Return when the session ends, with the reason: for who holds a stream open."""
        seen_at = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_SECONDS, max(0.0, of.expires_at - self._clock())))
            now = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self.check_active(of)
                seen_at = now
            except MeshError as err:
                if err.code in (code_pb2.CODE_INACTIVE_SIGNER, code_pb2.CODE_UNAUTHENTICATED):
                    return err
            except TimeoutError:
                pass
            # Not to know is no leave to go on.
            if now - seen_at >= _BLIND_SECONDS:
                return MeshError(
                    code_pb2.CODE_UNAVAILABLE, "the status of the caller cannot be checked; send again"
                )
