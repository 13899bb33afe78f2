"""What one client has in the gateway at a time, by all its streams and calls: nobody fills it for others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from cbmdhi.command.v1 import code_pb2
from services.gateway.pipeline.refusal_quota import RefusalQuota, RefusalQuotas
from services.runtime.byte_budget import ByteBudget, Held, budget_is_used_up
from services.runtime.errors import MeshError

_RETRY_MS = 1_000
_MEMORY_SECONDS = 5.0


@dataclass(frozen=True)
class ClientLimits:
    """Of one client.

    commands  taken from its streams and not answered yet
    in_bytes  of its submissions in memory
    streams   open at a time
    """

    commands: int
    in_bytes: int
    streams: int


class ClientQuota:
    """One client's. Kept for as long as one of its streams or calls holds it.

    window    counts commands
    memory    bytes, within what all clients share
    refusals  what it may have refused
    """

    def __init__(
        self, address: str, limits: ClientLimits, memory: ByteBudget, refusals: RefusalQuota
    ) -> None:
        self.address = address
        self.window = ByteBudget(limits.commands)
        self.memory = ByteBudget(limits.in_bytes, memory)
        self.refusals = refusals
        self._most_streams = limits.streams
        self._streams = 0

    async def hold_soon(self, size: int) -> Held:
        """Memory for a call. Raises MeshError RESOURCE_EXHAUSTED when there is none within seconds."""
        try:
            async with asyncio.timeout(_MEMORY_SECONDS):
                return await self.memory.hold(size)
        except TimeoutError as exc:
            raise budget_is_used_up() from exc

    @contextmanager
    def stream(self) -> Iterator[None]:
        """While a stream is open. Raises MeshError RESOURCE_EXHAUSTED."""
        if self._streams >= self._most_streams:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                f"{self._most_streams} streams of this caller are open already: use those, or close one",
                retry_after_ms=_RETRY_MS,
                outcome=code_pb2.OUTCOME_NOT_DONE,
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1


class ClientQuotas:
    """Everybody's, and the memory that all share."""

    def __init__(self, limits: ClientLimits, in_flight_bytes: int, refusals: RefusalQuotas) -> None:
        self.memory = ByteBudget(in_flight_bytes)
        self._limits = limits
        self._refusals = refusals
        self._known: WeakValueDictionary[str, ClientQuota] = WeakValueDictionary()

    def of(self, address: str) -> ClientQuota:
        """That of the client with this address. Hold it for as long as something of it is taken."""
        known = self._known.get(address)
        if known is None:
            known = ClientQuota(address, self._limits, self.memory, self._refusals.of(address))
            self._known[address] = known
        return known
