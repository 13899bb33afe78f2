"""A transaction or batch as a plain client sends it, made into what is committed to, entry by entry.

The rules of Bundles are in cbmdhi.protocol.bundle, those of a resource in `incoming`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import bundle
from services.gateway.domain import fhir
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.incoming import Incoming, incoming
from services.runtime.refusal import Refused

MOST_ENTRIES = 1_000
"""Of a batch: more would not be done within the deadline of a request."""
_TAKEN = (bundle.TRANSACTION, bundle.BATCH)


@dataclass(frozen=True)
class IncomingEntry:
    """What an entry writes, or a request by itself (`index` None). `version` 0: whichever is next."""

    index: int | None
    kind: str
    record_id: str
    version: int
    incoming: Incoming


@dataclass(frozen=True)
class IncomingBundle:
    """What a Bundle asks for: all of it or nothing, or each entry by itself, in order."""

    is_transaction: bool
    entries: tuple[IncomingEntry | Refused, ...]

    @property
    def written(self) -> list[IncomingEntry]:
        """The entries that can be written."""
        return [one for one in self.entries if isinstance(one, IncomingEntry)]


def incoming_bundle(checker: ResourceChecker, body: bytes) -> IncomingBundle:
    """What a body stands for. Raises Refused; of a transaction also what one entry is refused for."""
    parsed = fhir.parse(body)
    document = cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else dict[str, Any]()
    try:
        if document.get("resourceType") != "Bundle" or document.get("type") not in _TAKEN:
            raise bundle.NotTaken(
                "Bundle.type",
                "is transaction or batch here: a resource goes to /fhir/<type>, and a document, message or "
                "collection is written whole over gRPC (cbmdhi put)",
            )
        entries = bundle.entries(body.decode(), document, most=MOST_ENTRIES)
    except bundle.NotTaken as why:
        raise _refused(why) from why
    is_transaction = document["type"] == bundle.TRANSACTION
    found: list[IncomingEntry | Refused] = []
    for entry in entries:
        try:
            found.append(_checked(checker, entry))
        except Refused as why:
            if is_transaction:
                raise
            found.append(why)
    return IncomingBundle(is_transaction, tuple(found))


def in_entry(index: int, kind: str, reason: str, path: str) -> tuple[str, str]:
    """Reason and path of a resource's refusal, which say in which entry it is."""
    where = f"Bundle.entry[{index}]"
    inside = f"{where}.resource{path.removeprefix(kind)}" if path.startswith(kind) else where
    if path and reason.startswith(path):
        return f"{inside}{reason.removeprefix(path)}", inside
    return f"{inside}: {reason}", inside


def _checked(checker: ResourceChecker, entry: bundle.Entry | bundle.NotTaken) -> IncomingEntry:
    if isinstance(entry, bundle.NotTaken):
        raise _refused(entry)
    raw = entry.text.encode()
    try:
        made = incoming(checker.read(raw), raw, entry.record_id, names_id=False)
    except Refused as why:
        reason, path = in_entry(entry.place, entry.kind, why.reason, why.path)
        raise Refused(why.code, reason, path) from why
    return IncomingEntry(entry.place, entry.kind, entry.record_id, entry.version, made)


def _refused(why: bundle.NotTaken) -> Refused:
    return Refused(code_pb2.CODE_INVALID, why.reason, why.path)
