"""Identities of the channel, as of a moment ago."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from services.gateway.ttl import Remembered

_MOST = 50_000
# Who is not there, or not active yet, may be a moment later: a registration must not fail for our memory.
_SHAKY_SECONDS = 0.2


class Source(Protocol):
    """The ledger, or a fake."""

    async def identity(self, address: str) -> IdentityDocument | None: ...


@dataclass(frozen=True, slots=True)
class _Known:
    document: IdentityDocument | None

    @property
    def is_active(self) -> bool:
        return self.document is not None and self.document.status == IdentityStatus.IDENTITY_STATUS_ACTIVE


class Identities:
    """Asks the ledger, remembers for as long as the asker allows, asks once for many at a time."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._known: Remembered[str, _Known] = Remembered(_MOST, clock)
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    async def get(self, address: str, max_age_seconds: float) -> IdentityDocument | None:
        """The document, at most that old; None when there is none. Raises MeshError.

        Whoever is not active is known for a fifth of a second only.
        """
        known = self._known.get(address, max_age_seconds)
        if known is not None and not known.is_active:
            known = self._known.get(address, min(max_age_seconds, _SHAKY_SECONDS))
        if known is None:
            known = await self._ask(address)
        return known.document

    async def _ask(self, address: str) -> _Known:
        task = self._asking.get(address)
        if task is None:
            # A context of its own: the first asker's deadline is not the others'.
            task = asyncio.create_task(self._look_up(address), name="identity", context=contextvars.Context())
            self._asking[address] = task
            task.add_done_callback(lambda done: self._asked(address, done))
        # Who goes away does not spoil it for the others that wait.
        return await asyncio.shield(task)

    def _asked(self, address: str, done: asyncio.Task[_Known]) -> None:
        del self._asking[address]
        if not done.cancelled():
            done.exception()  # whoever asked has heard it; nobody may be left who has

    async def _look_up(self, address: str) -> _Known:
        known = _Known(await self._source.identity(address))
        self._known.put(address, known)
        return known
