"""Who is calling over REST: a token and a proof of its key, `Authorization: DPoP` (RFC 9449)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import web

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain import dpop
from services.gateway.domain import session as rules
from services.gateway.domain.origin import Origins
from services.gateway.domain.session import Session
from services.gateway.rest.request_slots import SLOT, RequestSlots
from services.gateway.rest.used_proofs import UsedProofs, used_before
from services.gateway.sessions.sessions import Sessions
from services.gateway.sessions.shared_state import SharedState
from services.runtime.errors import MeshError

_SCHEME = "DPoP "


class Authentication:
    """Checks a request. Raises MeshError."""

    def __init__(
        self,
        sessions: Sessions,
        used: UsedProofs,
        shared: SharedState,
        slots: RequestSlots,
        origins: Origins,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sessions = sessions
        self._origins = origins
        self._used = used
        self._shared = shared
        self._slots = slots
        self._clock = clock

    async def session(self, request: web.Request) -> Session:
        """The session of the token, when the proof is for this request and new, and the caller active."""
        given = request.headers.getall("Authorization", [])
        if len(given) != 1 or not given[0].startswith(_SCHEME):
            raise rules.unauthenticated(
                "log in at /v1/session, and send `Authorization: DPoP <token>` with a DPoP proof"
            )
        token = given[0].removeprefix(_SCHEME)
        session = await self._sessions.of_token(token)
        proof = self.proof(request, token)
        rules.check_bound(session, rules.DPOP, proof.thumbprint)
        # From here on the request is that caller's, and takes no slot of anybody else's.
        request[SLOT] = self._slots.take(session.address)
        self._used.use(proof.proof_id)
        ended, first, _ = await asyncio.gather(
            self._shared.has_ended(session.token_id),
            self._shared.claim(proof.proof_id, proof.issued_at),
            self._sessions.check_active(session),
        )
        if not first:
            raise used_before()
        if ended:
            raise MeshError(code_pb2.CODE_UNAUTHENTICATED, "this session was ended: log in again")
        return session

    def proof(self, request: web.Request, token: str | None) -> dpop.Proof:
        """The proof of a request; that it is new is not checked here. Raises MeshError."""
        proofs = request.headers.getall("DPoP", [])
        if len(proofs) != 1:
            raise rules.unauthenticated("send exactly one DPoP proof in the header `DPoP`")
        return dpop.verify(
            proofs[0],
            method=request.method,
            urls=self._origins.urls(request.rel_url.raw_path),
            token=token,
            now=self._clock(),
        )
