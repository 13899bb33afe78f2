"""What the channel says of versions of records. It never changes, so it is asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from services.runtime.batching import MicroBatcher
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from services.storage.cache import Cache
from services.storage.together import outcomes

_REMEMBERED = 20_000
_AT_ONCE = 500
_LINGER_SECONDS = 0.005
_QUEUE = 10_000
_IN_FLIGHT = 2

Place = tuple[str, int]
"""Record id and version."""


class RecordSource(Protocol):
    """The own ledger (`ledger.Ledger`), or a fake."""

    async def records(self, places: Sequence[Place]) -> list[RecordVersion | None]:
        """Entries in order; None where there is none. Raises MeshError."""
        ...


class Records:
    """`async with Records(source, metrics)`: many readers' questions leave together."""

    def __init__(self, source: RecordSource, metrics: Metrics) -> None:
        self._source = source
        self._known: Cache[Place, RecordVersion] = Cache(_REMEMBERED)
        self._batcher: MicroBatcher[Place, RecordVersion] = MicroBatcher(
            self._fetch,
            max_count=_AT_ONCE,
            max_bytes=_AT_ONCE,
            linger_seconds=_LINGER_SECONDS,
            max_queue=_QUEUE,
            size_of=lambda _: 1,
            max_in_flight=_IN_FLIGHT,
            metrics=metrics,
            name="records",
        )

    async def __aenter__(self) -> Records:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._batcher.close()

    async def many(self, places: Iterable[Place]) -> dict[Place, RecordVersion | MeshError]:
        """Entries of versions, or why there is none; what is not known leaves in one question."""
        found: dict[Place, RecordVersion | MeshError] = {}
        asked: dict[Place, asyncio.Future[RecordVersion]] = {}
        for place in dict.fromkeys(places):
            known = self._known.get(place)
            if known is not None:
                found[place] = known
                continue
            try:
                asked[place] = self._batcher.enqueue(place)
            except MeshError as err:
                found[place] = err
        return found | await outcomes(asked)

    async def _fetch(self, places: list[Place]) -> list[RecordVersion | Exception]:
        wanted = list(dict.fromkeys(places))
        found = dict(zip(wanted, await self._source.records(wanted), strict=True))
        for place, record in found.items():
            # Under another name than the one asked for it is nobody's: see `Releasing.entitle`.
            if record is not None and (record.record_id, record.version) == place:
                self._known.put(place, record)
        return [found[place] or _not_found() for place in places]


def _not_found() -> MeshError:
    return MeshError(code_pb2.CODE_NOT_FOUND, "the channel has no such version of the record")
