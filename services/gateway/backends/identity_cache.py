"""Identities of the channel, as of a moment ago."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from cbmdhi.command.v1.state_pb2 import IdentityDocument, IdentityStatus
from services.runtime.ttl_cache import TtlCache

_MOST = 50_000
_AT_ONCE = 500
# Who is not there, or not active yet, may be a moment later: a registration must not fail for our memory.
_SHAKY_SECONDS = 0.2


class Source(Protocol):
    """The ledger, or a fake."""

    async def identities(self, addresses: Sequence[str]) -> list[IdentityDocument | None]: ...


@dataclass(frozen=True, slots=True)
class _Found:
    document: IdentityDocument | None
    is_active: bool

    @classmethod
    def of(cls, document: IdentityDocument | None) -> _Found:
        active = document is not None and document.status == IdentityStatus.IDENTITY_STATUS_ACTIVE
        return cls(document, active)


_Answers = dict[str, _Found]


class IdentityCache:
    """Asks the ledger, remembers for as long as the asker allows, asks once for many at a time.

    is_revoked  by MSP id and address (services.runtime.revocations)
    """

    def __init__(
        self,
        source: Source,
        is_revoked: Callable[[str, str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._is_revoked = is_revoked
        self._found: TtlCache[str, _Found] = TtlCache(_MOST, spread=True, clock=clock)
        self._asking: dict[str, asyncio.Task[_Answers]] = {}

    async def get(self, address: str, max_age_seconds: float) -> IdentityDocument | None:
        """The document, at most that old; None when there is none. Raises MeshError."""
        return (await self.several([address], max_age_seconds))[address]

    async def several(
        self, addresses: Collection[str], max_age_seconds: float
    ) -> dict[str, IdentityDocument | None]:
        """The document of each address, at most that old; None where there is none. Raises MeshError.

        Whoever is not active is known for a fifth of a second only.
        """
        found = {address: self._remembered(address, max_age_seconds) for address in addresses}
        missing = [address for address, one in found.items() if one is None]
        answers = await self._ask(missing) if missing else {}
        return {
            address: self._as_it_stands((one or answers[address]).document) for address, one in found.items()
        }

    def _as_it_stands(self, document: IdentityDocument | None) -> IdentityDocument | None:
        """Whom the home member's CA has revoked may do nothing here, whatever the channel says as yet."""
        if document is None or not self._is_revoked(document.home_msp, document.address):
            return document
        revoked = IdentityDocument()
        revoked.CopyFrom(document)
        # Not suspended: a suspended patient may still take consent away, a thief may not.
        revoked.status = IdentityStatus.IDENTITY_STATUS_REJECTED
        return revoked

    def _remembered(self, address: str, max_age_seconds: float) -> _Found | None:
        found = self._found.get(address, max_age_seconds)
        if found is None or found.is_active:
            return found
        return self._found.get(address, min(max_age_seconds, _SHAKY_SECONDS))

    async def _ask(self, addresses: Sequence[str]) -> _Answers:
        unasked = [address for address in addresses if address not in self._asking]
        for start in range(0, len(unasked), _AT_ONCE):
            part = unasked[start : start + _AT_ONCE]
            # A context of its own: the first asker's deadline is not the others'.
            task = asyncio.create_task(self._look_up(part), name="identities", context=contextvars.Context())
            self._asking.update(dict.fromkeys(part, task))
            task.add_done_callback(partial(self._asked, part))
        answers: _Answers = {}
        for task in {self._asking[address] for address in addresses}:
            # Who goes away does not spoil it for the others that wait.
            answers |= await asyncio.shield(task)
        return answers

    def _asked(self, addresses: Sequence[str], done: asyncio.Task[_Answers]) -> None:
        for address in addresses:
            del self._asking[address]
        if not done.cancelled():
            done.exception()  # whoever asked has heard it; nobody may be left who has

    async def _look_up(self, addresses: Sequence[str]) -> _Answers:
        documents = await self._source.identities(addresses)
        answers = {a: _Found.of(document) for a, document in zip(addresses, documents, strict=True)}
        for address, found in answers.items():
            self._found.put(address, found)
        return answers
