"""A file of FHIR R4 as the records that it means: a resource, a document, what a transaction or batch asks.

The rules of Bundles are in cbmdhi.protocol.bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cbmdhi.client.records import NewRecord
from cbmdhi.errors import Misuse
from cbmdhi.protocol import bundle, json_text


@dataclass(frozen=True)
class Writes:
    """What a file asks for.

    together  all of it is committed, or nothing (`Records.put_together`)
    asked     a record for each entry, in order, or why it cannot be one; of what is together, records alone
    """

    together: bool
    asked: tuple[NewRecord | Misuse, ...]

    @property
    def records(self) -> list[NewRecord]:
        """Those that can be written."""
        return [one for one in self.asked if isinstance(one, NewRecord)]


def writes_of(document: bytes | str | Mapping[str, Any], patient: str) -> Writes:
    """What a resource or Bundle asks for, to be written about that patient. Raises Misuse.

    document  JSON stays as it is, to the byte, where nothing has to be changed; see `NewRecord.of`. In a
              transaction or batch a record's id, and references to what gets one, have to be
    """
    try:
        raw = document if isinstance(document, bytes) else _as_bytes(document)
        found = json_text.parse_object(raw)
        if not bundle.is_taken_apart(found):
            return Writes(False, (NewRecord.of(patient, document),))
        entries = bundle.entries(raw.decode(), found, patient)
    except json_text.NotJson as error:
        raise Misuse(f"the resource {error}") from error
    except bundle.NotTaken as error:
        raise Misuse(error.reason, error.path) from error
    together, asked = found["type"] == bundle.TRANSACTION, tuple(_record(entry, patient) for entry in entries)
    if together:
        _raise_first(asked)
    return Writes(together, asked)


def records_of(document: bytes | str | Mapping[str, Any], patient: str) -> list[NewRecord]:
    """The records alone. Raises Misuse unless all of it can be written."""
    writes = writes_of(document, patient)
    _raise_first(writes.asked)
    return writes.records


def _raise_first(asked: Iterable[NewRecord | Misuse]) -> None:
    for one in asked:
        if isinstance(one, Misuse):
            raise one


def _record(entry: bundle.Entry | bundle.NotTaken, patient: str) -> NewRecord | Misuse:
    if isinstance(entry, bundle.NotTaken):
        return Misuse(entry.reason, entry.path)
    if not entry.version:
        where = f"Bundle.entry[{entry.place}].request"
        needed = 'says which version it follows: ifMatch W/"<version>", or ifNoneMatch `*` for the first'
        return Misuse(f"{where} {needed}", where)
    return NewRecord(patient, entry.text.encode(), entry.record_id, entry.version)


def _as_bytes(document: str | Mapping[str, Any]) -> bytes:
    return json_text.encode(document) if isinstance(document, str) else json_text.dump(document)
