"""FHIR R4 Bundles, read as what they are: a transaction is all or nothing, a batch is each entry by itself, a
document, message or collection is one thing. The table is in docs/fhir.md.

A transaction by http://hl7.org/fhir/R4/http.html#trules: each entry that is created gets an id of the
server's and whatever refers to it is rewritten. Contents are encrypted, so nothing can be searched: what asks
for a search is refused, with what to do in its place. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from cbmdhi.protocol import command, ids, json_text
from cbmdhi.protocol import resource as resources
from cbmdhi.protocol.bundle_references import LEAST_ROOM, SEARCHES, Links, NotTaken, Target

__all__ = ["BATCH", "MOST_ENTRIES", "TRANSACTION", "Entry", "NotTaken", "entries", "is_taken_apart"]

Json = dict[str, Any]

TRANSACTION, BATCH = "transaction", "batch"
MOST_ENTRIES = command.MAX_GROUP_OF_RECORDS
"""Of a transaction: it is one group of commands."""
_LONGEST_URL = 2_048

_WHOLE = ("document", "message", "collection")
_ANSWERS = ("searchset", "history", "transaction-response", "batch-response")
_CONDITIONS = ("ifNoneMatch", "ifModifiedSince", "ifMatch", "ifNoneExist")
_ETAG = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')
_ABSOLUTE = re.compile(r"(?:https?://|urn:(?:uuid|oid):)\S+")
_METHODS = {
    "GET": "asks to read: ask by itself, GET /fhir/Type/id",
    "HEAD": "asks to read: ask by itself, GET /fhir/Type/id",
    "DELETE": "deletes, and what is committed stays: PUT a version with a status such as entered-in-error",
    "PATCH": "changes a part: PUT the whole next version",
}


@dataclass(frozen=True)
class Entry:
    """An entry that writes a version of a record.

    version  0: whichever is next
    text     the resource as JSON, with its record's id, and with references that hold
    """

    place: int
    kind: str
    record_id: str
    version: int
    text: str = field(repr=False)

    @property
    def path(self) -> str:
        """Where its resource stands."""
        return f"{_at(self.place)}.resource"


@dataclass(frozen=True)
class _Draft:
    """An entry as it came: its references are not resolved yet."""

    place: int
    target: Target
    text: str = field(repr=False)
    resource: Json = field(repr=False)


def is_taken_apart(document: Json) -> bool:
    """True for a transaction or batch, False for what is one thing. Raises NotTaken for a server's answer."""
    if document.get("resourceType") != "Bundle":
        return False
    kind = document.get("type")
    if kind in (TRANSACTION, BATCH):
        return True
    if kind in _ANSWERS:
        raise NotTaken("Bundle.type", "is of a server's answer: send its resources as a transaction or batch")
    if kind not in _WHOLE:
        raise NotTaken("Bundle.type", f"is needed, one of {', '.join((TRANSACTION, BATCH, *_WHOLE))}")
    return False


def entries(
    text: str, document: Json, patient: str = "", *, most: int | None = None
) -> list[Entry | NotTaken]:
    """What the entries of a transaction or batch write, in order. Of a transaction: all of them, or raises
    NotTaken; of a batch each one or why not.

    text      the JSON that `document` was read from
    patient   address of whom the Bundle's Patient is; empty where nobody says so
    most      entries of a batch that the reader takes; they are counted before any of them is looked at
    """
    is_transaction = document.get("type") == TRANSACTION
    _check_bundle(document, is_transaction)
    if most is not None and len(document["entry"]) > most:
        raise NotTaken("Bundle.entry", f"has over {most} entries: send fewer at once")
    found: list[_Draft | NotTaken] = []
    for place, (entry, spelt) in enumerate(zip(document["entry"], _resources_in(text), strict=True)):
        try:
            found.append(_draft(entry, spelt, place, patient))
        except NotTaken as why:
            if is_transaction:
                raise
            found.append(why)
    drafts = [one for one in found if isinstance(one, _Draft)]
    _check_patients(drafts)
    for place, why in _doubles(drafts):
        if is_transaction:
            raise why
        found[place] = why
    room = max(LEAST_ROOM, len(text))
    links = Links([one.target for one in drafts], patient, is_transaction=is_transaction, room=room)
    written: list[Entry | NotTaken] = []
    for one in found:
        try:
            written.append(one if isinstance(one, NotTaken) else _written(one, links))
        except NotTaken as why:
            if is_transaction:
                raise
            written.append(why)
    return written


def _check_bundle(document: Json, is_transaction: bool) -> None:
    for name in ("implicitRules", "modifierExtension"):
        if name in document:
            raise NotTaken(f"Bundle.{name}", "changes what the Bundle means in a way that is not known here")
    listed = document.get("entry")
    if not isinstance(listed, list) or not listed:
        raise NotTaken("Bundle.entry", "is empty: there is nothing to write")
    count = len(cast("list[Any]", listed))
    if is_transaction and count > MOST_ENTRIES:
        raise NotTaken(
            "Bundle.entry",
            f"has {count} entries, and at most {MOST_ENTRIES} are committed together: send several, "
            "or a batch, in which each entry stands by itself",
        )


def _resources_in(text: str) -> Iterator[str]:
    """The text of each entry's resource; empty where there is none."""
    for listed in json_text.members(text, json_text.start_of(text)):
        if listed.name == "entry":
            for at in json_text.elements(text, listed.value):
                inner = json_text.members(text, at) if text[at] == "{" else []
                yield next((text[one.value : one.end] for one in inner if one.name == "resource"), "")


def _draft(entry: Any, spelt: str, place: int, patient: str) -> _Draft:
    path = _at(place)
    request, resource = _member(entry, "request"), _member(entry, "resource")
    if not isinstance(request, dict):
        raise NotTaken(f"{path}.request", "is needed: what to do, such as POST and Observation")
    asked = cast("Json", request)
    if "modifierExtension" in entry or "modifierExtension" in asked:
        raise NotTaken(path, "has a modifierExtension, and what it changes is not known here")
    method, url = asked.get("method"), asked.get("url")
    if method not in ("POST", "PUT"):
        raise NotTaken(f"{path}.request.method", _METHODS.get(str(method), "is POST or PUT"))
    if not isinstance(resource, dict):
        raise NotTaken(f"{path}.resource", "is needed: it is what is written")
    members = cast("Json", resource)
    kind, full_url = members.get("resourceType"), entry.get("fullUrl", "")
    if not isinstance(kind, str) or not isinstance(url, str):
        raise NotTaken(path, "does not say what it writes: resource.resourceType and request.url")
    if kind == "Patient" and not patient:
        raise NotTaken(
            f"{path}.resource",
            "is a Patient, and nobody says who that is here: leave it out, and name the patient by address, "
            "Patient/cb1…, in every entry",
        )
    if not isinstance(full_url, str) or (full_url and not _ABSOLUTE.fullmatch(full_url)):
        raise NotTaken(f"{path}.fullUrl", "is absolute, such as urn:uuid:… or https://…")
    if len(full_url) > _LONGEST_URL:
        raise NotTaken(f"{path}.fullUrl", f"has over {_LONGEST_URL} characters")
    if "/_history/" in full_url:
        raise NotTaken(f"{path}.fullUrl", "names no version")
    of = _create if method == "POST" else _update
    record_id, version = of(asked, url, kind, members, path)
    target = Target(kind, record_id, version, full_url, str(members.get("id", "")))
    return _Draft(place, target, spelt, members)


def _create(request: Json, url: str, kind: str, resource: Json, path: str) -> tuple[str, int]:
    if "ifNoneExist" in request:
        raise NotTaken(
            f"{path}.request.ifNoneExist",
            f"{SEARCHES}to have it there once, PUT it under an id of yours (a UUIDv7) with ifNoneMatch `*`",
        )
    _check_conditions(request, path, ())
    if url != kind:
        raise NotTaken(f"{path}.request.url", "is the type of the resource in a POST, and nothing more")
    own = resource.get("id")
    keeps_own = resources.is_kept_whole(resource) and isinstance(own, str) and ids.is_uuid7(own)
    return (str(own) if keeps_own else ids.uuid7()), 1


def _update(request: Json, url: str, kind: str, resource: Json, path: str) -> tuple[str, int]:
    if "?" in url:
        raise NotTaken(f"{path}.request.url", f"{SEARCHES}PUT to the id of the record, Type/id")
    _check_conditions(request, path, ("ifMatch", "ifNoneMatch"))
    record_id = url.removeprefix(f"{kind}/")
    if url != f"{kind}/{record_id}" or not ids.is_uuid7(record_id):
        raise NotTaken(f"{path}.request.url", "is Type/id in a PUT: the resource's type, and an id, a UUIDv7")
    if resource.get("id") != record_id:
        raise NotTaken(f"{path}.resource.id", "is the id of request.url in a PUT")
    match, none_match = request.get("ifMatch"), request.get("ifNoneMatch")
    if match is None and none_match in (None, "*"):
        return record_id, 0 if none_match is None else 1
    found = _ETAG.fullmatch(match) if isinstance(match, str) and none_match is None else None
    if found is None:
        raise NotTaken(f"{path}.request", 'takes ifMatch W/"<version>" or ifNoneMatch `*`, or neither')
    return record_id, int(found[1]) + 1


def _check_conditions(request: Json, path: str, known: tuple[str, ...]) -> None:
    for name in _CONDITIONS:
        if name in request and name not in known:
            raise NotTaken(f"{path}.request.{name}", f"is not for a {request['method']}")


def _check_patients(drafts: list[_Draft]) -> None:
    patients = [one.place for one in drafts if one.target.kind == "Patient"]
    if len(patients) > 1:
        raise NotTaken(_at(patients[1]), "is a second Patient: send each one's records by themselves")


def _doubles(drafts: list[_Draft]) -> Iterator[tuple[int, NotTaken]]:
    """Entries that write what one before them writes: nobody says which comes first.

    An id is one record's, whatever its type: two types under one id would be versions of the same record.
    """
    named: dict[str, _Draft] = {}
    for one in drafts:
        names = [name for name in (one.target.full_url, one.target.record_id) if name]
        before = next((named[name] for name in names if name in named), None)
        if before is not None:
            what = (
                f"is the same as entry[{before.place}]: send it once"
                if before.target.kind == one.target.kind
                else f"has the id or fullUrl of entry[{before.place}], of another type: give each its own"
            )
            yield one.place, NotTaken(_at(one.place), what)
        named.update(dict.fromkeys(names, one))


def _written(draft: _Draft, links: Links) -> Entry:
    text, target = draft.text, draft.target
    if not resources.is_kept_whole(draft.resource):
        text = links.rewritten(text, f"{_at(draft.place)}.resource", target.root)
        text = resources.as_record(text, target.record_id, target.version, by_server=True)
    return Entry(draft.place, target.kind, target.record_id, target.version, text)


def _at(place: int) -> str:
    return f"Bundle.entry[{place}]"


def _member(value: object, name: str) -> Any:
    return cast("Json", value).get(name) if isinstance(value, dict) else None
