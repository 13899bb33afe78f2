"""A session's token: kept, renewed by the wallet's signature before it ends, given up when it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cbmdhi.client.backoff import Backoff
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError

_log = logging.getLogger("cbmdhi.client")

# A token is renewed at a moment in between, drawn anew for each: many who logged in together part.
_SOONEST, _LATEST = 0.5, 0.8


class Issued(NamedTuple):
    """A token as identity gave it. `seconds`: how long it is good from then on."""

    token: str
    seconds: float


class Tokens:
    """The token of one session. One login at a time, however many ask; until it is done the old token does.

    login  logs in by the wallet's signature. Raises MeshError
    """

    def __init__(
        self,
        login: Callable[[], Awaitable[Issued]],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._login = login
        self._clock = clock
        self._chance = chance or random.SystemRandom()
        self._token = ""
        self._renews_at = self._ends_at = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self._waits = Backoff(chance=self._chance)

    @property
    def current(self) -> str:
        """The token as it is, without a question; empty before the first login and after `forget`."""
        return self._token

    @property
    def renews_in(self) -> float:
        """Seconds until another is fetched. Who holds a stream open goes over to it then."""
        return max(self._renews_at - self._clock(), 0.0)

    async def get(self) -> str:
        """A token that is good. Raises MeshError when there is none and no login succeeds."""
        now = self._clock()
        if self._token and now < self._renews_at:
            return self._token
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew(), name="token-renewal")
            self._renewal.add_done_callback(self._renewed)
        if self._token and now < self._ends_at:
            return self._token
        # Whoever stops waiting does not stop the login for the others.
        renewal = self._renewal
        try:
            await asyncio.shield(renewal)
        except asyncio.CancelledError:
            if not renewal.cancelled():
                raise
            why = "the client was closed before it was logged in"
            raise MeshError(code_pb2.CODE_UNAVAILABLE, why) from None
        return self._token

    def forget(self, token: str = "") -> None:
        """Fetch another at the next question.

        token  which one was refused: when another one took its place meanwhile, that one stays. Empty: any
        """
        if token in ("", self._token):
            self._token = ""

    async def close(self) -> None:
        """End what goes on."""
        if (renewal := self._renewal) is not None:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError, MeshError):
                await renewal

    async def _renew(self) -> None:
        begun = self._clock()
        try:
            issued = await self._login()
        except MeshError as error:
            now = self._clock()
            if not self._token or now >= self._ends_at:
                raise
            # The one that there is does: it is tried again before that ends.
            wait = self._waits.next(error.retry_after_ms / 1000)
            self._renews_at = min(now + wait, self._ends_at)
            _log.warning("the session is not renewed yet, again in %.1f s: %s", wait, error)
            return
        self._waits.reset()
        share = _SOONEST + (_LATEST - _SOONEST) * self._chance.random()
        self._token = issued.token
        self._renews_at, self._ends_at = begun + share * issued.seconds, begun + issued.seconds

    def _renewed(self, renewal: asyncio.Task[None]) -> None:
        self._renewal = None
        # Who waits for it hears of it; where nobody does, whoever asks next tries again.
        if not renewal.cancelled():
            renewal.exception()
