"""Opens what committed decisions permit: many readers' opens leave together."""

from __future__ import annotations

import asyncio
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.storage.v1.storage_pb2 import OpenRequest, OpenResponse, OpenResult
from services.runtime.batching import MicroBatcher
from services.runtime.errors import of_detail
from services.runtime.telemetry import Metrics

_AT_ONCE = 200
_LINGER_SECONDS = 0.005
_QUEUE = 10_000
_IN_FLIGHT = 4
_FULL = frozenset((code_pb2.CODE_TOO_LARGE,))
# A reader of a single record tries once more, alone, what was unavailable for a moment.
_RETRY_ALONE = _FULL | {code_pb2.CODE_UNAVAILABLE, code_pb2.CODE_RESOURCE_EXHAUSTED}


class Storage(Protocol):
    """Storage (services.gateway.backends.storage), or a fake."""

    async def open_many(self, opens: list[OpenRequest]) -> list[OpenResult]: ...

    async def open(self, tx_id: str, command_id: str) -> OpenResponse: ...


class OpenBatcher:
    """`async with OpenBatcher(storage, metrics)`: leaving waits for what is under way."""

    def __init__(self, storage: Storage, metrics: Metrics) -> None:
        self._storage = storage
        self._batcher: MicroBatcher[OpenRequest, OpenResult] = MicroBatcher(
            self._open_many,
            max_count=_AT_ONCE,
            max_bytes=_AT_ONCE,
            linger_seconds=_LINGER_SECONDS,
            max_queue=_QUEUE,
            size_of=lambda _: 1,
            max_in_flight=_IN_FLIGHT,
            metrics=metrics,
            name="open",
        )

    async def __aenter__(self) -> OpenBatcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._batcher.close()

    def enqueue(self, tx_id: str, command_id: str) -> asyncio.Future[OpenResult]:
        """The future of an open among others, which has its own error in its result or a MeshError for all.

        Raises MeshError RESOURCE_EXHAUSTED, UNAVAILABLE (closing).
        """
        return self._batcher.enqueue(OpenRequest(tx_id=tx_id, command_id=command_id))

    async def open(self, tx_id: str, command_id: str) -> OpenResponse:
        """Envelope and data key, sealed to the reader. Raises MeshError."""
        result = await self.enqueue(tx_id, command_id)
        return await self._settled(result, tx_id, command_id, _RETRY_ALONE)

    async def settled(self, result: OpenResult, tx_id: str, command_id: str) -> OpenResponse:
        """What a result among others came to; what did not fit there is opened alone. Raises MeshError."""
        return await self._settled(result, tx_id, command_id, _FULL)

    async def _settled(
        self, result: OpenResult, tx_id: str, command_id: str, alone: frozenset[int]
    ) -> OpenResponse:
        if result.HasField("opened"):
            return result.opened
        error = result.error
        if error.code in alone:
            return await self._storage.open(tx_id, command_id)
        raise of_detail(error)

    async def _open_many(self, opens: list[OpenRequest]) -> list[OpenResult | Exception]:
        return [*await self._storage.open_many(opens)]
