"""Sessions: who a token stands for, and whether that identity is still active on the channel."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.protocol import standing
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.domain import jose, session
from services.gateway.domain.session import Session
from services.gateway.sessions.token_keys import TokenKeys
from services.runtime.errors import MeshError, copied
from services.runtime.ttl_cache import TtlCache

# Suspended means refused within 5 s: at most 1 s until the next look, at a document at most 2 s old.
STATUS_SECONDS = 2.0
_LOOK_EVERY_SECONDS = 1.0
_LOOK_SECONDS = 2.0
_BLIND_SECONDS = 4.0
_AGAIN_MS = 500


class Sessions:
    """Verifies tokens of the own member, and watches whoever is behind them. Raises MeshError.

    revocations_problem  of a member: None while it is known whom its CA has revoked, else a sentence
    """

    def __init__(
        self,
        keys: TokenKeys,
        identities: IdentityCache,
        *,
        own_msp: str,
        most: int,
        revocations_problem: Callable[[str], str | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._identities = identities
        self._own_msp = own_msp
        self._revocations_problem = revocations_problem
        self._clock = clock
        self._verified: TtlCache[bytes, Session] = TtlCache(most)
        self._open: set[_Open] = set()
        self._watch_task: asyncio.Task[None] | None = None

    async def of_token(self, token: str) -> Session:
        """The session of a token; the binding is not checked here. Raises UNAUTHENTICATED, UNAVAILABLE."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and known.expires_at > self._clock():
            return known
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

    async def check_active(self, of: Session, *, or_takes_away: bool = False) -> None:
        """Raises MeshError INACTIVE_SIGNER (suspended), UNAUTHENTICATED (token expired), UNAVAILABLE.

        or_takes_away: a suspended patient goes on, who may still take consent away.
        """
        if (expired := self._expired(of)) is not None:
            raise expired
        if problem := self._revocations_problem(of.msp):
            raise MeshError(code_pb2.CODE_UNAVAILABLE, problem, "", _AGAIN_MS)
        document = await self._identities.get(of.address, STATUS_SECONDS)
        if or_takes_away and standing.may_take_away(document):
            return
        if (inactive := _inactive(document)) is not None:
            raise inactive

    async def over(self, of: Session) -> MeshError:
        """Return when the session ends, with the reason: for who holds a stream open.

        All that are open are looked at together, however many there are.
        """
        loop = asyncio.get_running_loop()
        one = _Open(of, loop.create_future(), loop.time())
        self._open.add(one)
        if self._watch_task is None:
            # A context of its own: it is not the first one's alone.
            context = contextvars.Context()
            self._watch_task = asyncio.create_task(self._look(), name="session-watch", context=context)
        try:
            return await one.answer
        finally:
            self._open.discard(one)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._open:
                first_ends = min(one.session.expires_at for one in self._open) - self._clock()
                await asyncio.sleep(min(_LOOK_EVERY_SECONDS, max(0.0, first_ends)))
                now = loop.time()
                documents = await self._documents({one.session.address for one in self._open})
                for one in [*self._open]:
                    one.settle(self._ended(one, documents, now))
        finally:
            self._watch_task = None
            for one in self._open:
                one.settle(copied(_BLIND))

    async def _documents(self, addresses: set[str]) -> Mapping[str, IdentityDocument | None] | None:
        """None when they cannot be had now."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                return await self._identities.several(addresses, STATUS_SECONDS)
        except (MeshError, TimeoutError):
            return None

    def _ended(
        self, one: _Open, documents: Mapping[str, IdentityDocument | None] | None, now: float
    ) -> MeshError | None:
        if (expired := self._expired(one.session)) is not None:
            return expired
        known = self._revocations_problem(one.session.msp) is None
        if known and documents is not None and one.session.address in documents:
            one.seen_at = now
            return _inactive(documents[one.session.address])
        # Not to know is no leave to go on.
        return copied(_BLIND) if now - one.seen_at >= _BLIND_SECONDS else None

    def _expired(self, of: Session) -> MeshError | None:
        if of.expires_at > self._clock():
            return None
        return MeshError(code_pb2.CODE_UNAUTHENTICATED, "the token has expired: log in again")


_BLIND = MeshError(code_pb2.CODE_UNAVAILABLE, "the status of the caller cannot be checked; send again")


@dataclass(eq=False)
class _Open:
    """A session that somebody holds a stream open for. `seen_at`: loop time at which its status was known."""

    session: Session
    answer: asyncio.Future[MeshError]
    seen_at: float

    def settle(self, ended: MeshError | None) -> None:
        if ended is not None and not self.answer.done():
            self.answer.set_result(ended)


def _inactive(document: IdentityDocument | None) -> MeshError | None:
    if standing.is_active(document):
        return None
    return MeshError(
        code_pb2.CODE_INACTIVE_SIGNER,
        "this identity is not active any more (suspended, rejected, or its certificate revoked): "
        "ask its hospital",
    )
