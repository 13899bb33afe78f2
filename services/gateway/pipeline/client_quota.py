"""What one client has in the gateway at a time, by all its streams and calls: nobody fills it for others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from cbmdhi.command.v1 import code_pb2
from services.gateway.pipeline.refusal_quota import Allowance, Allowances
from services.runtime.byte_budget import Room, Share
from services.runtime.errors import MeshError

_RETRY_MS = 1_000


class HasRoom(Protocol):
    """The pipeline: room in bytes for what is in memory of all clients."""

    room: Room


@dataclass(frozen=True)
class Most:
    """Of one client.

    submissions  taken from its streams and not answered yet
    in_bytes     of its submissions in memory
    streams      open at a time
    """

    submissions: int
    in_bytes: int
    streams: int


class Caller:
    """One client's part. Kept for as long as one of its streams or calls holds it."""

    def __init__(self, most: Most, room: Room, allowance: Allowance) -> None:
        self.window = Room(most.submissions)
        self.memory = Share(Room(most.in_bytes), room)
        self.allowance = allowance
        self._most_streams = most.streams
        self._streams = 0

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


class Callers:
    """Everybody's."""

    def __init__(self, pipeline: HasRoom, allowances: Allowances, most: Most) -> None:
        self._pipeline = pipeline
        self._allowances = allowances
        self._most = most
        self._known: WeakValueDictionary[str, Caller] = WeakValueDictionary()

    def of(self, address: str) -> Caller:
        """That of the client with this address. Hold it for as long as something of it is taken."""
        known = self._known.get(address)
        if known is None:
            known = Caller(self._most, self._pipeline.room, self._allowances.of(address))
            self._known[address] = known
        return known
