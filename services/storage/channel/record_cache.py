"""What the channel says of versions of records. It never changes, so it is asked for once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Protocol

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import RecordVersion
from services.runtime.batched_lookup import BatchedLookup
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from services.runtime.ttl_cache import TtlCache

_REMEMBERED = 20_000

Place = tuple[str, int]
"""Record id and version."""


class RecordSource(Protocol):
    """The own ledger (`ledger.Ledger`), or a fake."""

    async def records(self, places: Sequence[Place]) -> list[RecordVersion | None]:
        """Entries in order; None where there is none. Raises MeshError."""
        ...


class RecordCache:
    """`async with Records(source, metrics)`: many readers' questions leave together."""

    def __init__(self, source: RecordSource, metrics: Metrics) -> None:
        self._source = source
        known: TtlCache[Place, RecordVersion] = TtlCache(_REMEMBERED)
        self._gathered = BatchedLookup(self._ask, known, metrics, "records", lasting=_is_of)

    async def __aenter__(self) -> RecordCache:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._gathered.close()

    async def many(self, places: Iterable[Place]) -> dict[Place, RecordVersion | MeshError]:
        """Entries of versions, or why there is none; what is not known leaves in one question."""
        return await self._gathered.many(places)

    async def _ask(self, places: Sequence[Place]) -> list[RecordVersion | MeshError]:
        return [record or _not_found() for record in await self._source.records(places)]


def _is_of(place: Place, record: RecordVersion) -> bool:
    """Under another name than the one asked for it is nobody's: see `KeyRelease.entitle`."""
    return (record.record_id, record.version) == place


def _not_found() -> MeshError:
    return MeshError(code_pb2.CODE_NOT_FOUND, "the channel has no such version of the record")
