"""The page on FHIR quotes refusals as they are: each is provoked, and what is not on the page is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from cbmdhi import fhir
from cbmdhi.errors import Misuse
from cbmdhi.protocol import json_text
from services.gateway.domain.incoming_bundle import MOST_ENTRIES, incoming_bundle
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_people import Person, an_observation, checker
from tools.docs.pages import DOCS

ADDRESS = Person().address
ID, OTHER_ID = "01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"
POST = {"method": "POST", "url": "Observation"}
PUT = {"method": "PUT", "url": f"Observation/{ID}"}
PATIENT = {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}


def entry(request: dict[str, Any] = POST, **changes: Any) -> dict[str, Any]:
    kept = {name: value for name, value in an_observation().items() if name not in ("encounter", "performer")}
    about = {"reference": f"Patient/{ADDRESS}"}
    return {"resource": {**kept, "subject": about, **changes}, "request": request}


def condition() -> dict[str, Any]:
    resource = {**entry()["resource"], "resourceType": "Condition"}
    return {"resource": resource, "request": {"method": "POST", "url": "Condition"}}


def to(reference: str) -> dict[str, Any]:
    return entry(encounter={"reference": reference})


def bundle(*entries: Any, kind: str = "transaction", **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": entries, **more}


def over_rest(document: dict[str, Any]) -> str:
    """The sentence by which `POST /fhir` refuses it, or its first entry."""
    try:
        incoming = incoming_bundle(checker(), json.dumps(document).encode())
    except Refused as why:
        return why.reason
    return next(one.reason for one in incoming.entries if isinstance(one, Refused))


def by_put(document: dict[str, Any]) -> str:
    """The sentence by which `cbmdhi put` refuses it."""
    with pytest.raises(Misuse) as caught:
        fhir.writes_of(document, ADDRESS)
    return caught.value.reason


def of_text(raw: bytes) -> str:
    with pytest.raises(json_text.NotJson) as caught:
        json_text.parse(raw)
    return str(caught.value)


def with_request(**request: Any) -> dict[str, Any]:
    return bundle(entry(request))


def table(heading: str, head: str) -> list[str]:
    """The second cells of that table, under that heading."""
    part = (DOCS / "fhir.md").read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = part.split(f"\n| {head} | the sentence |\n")[1].split("\n\n")[0].splitlines()[1:]
    return [plain(row.strip("| ").rpartition(" | ")[2]) for row in rows]


def plain(sentence: str) -> str:
    return sentence.replace("`", "")


REFUSED_BUNDLES: dict[str, Callable[[], str]] = {
    "document": lambda: over_rest(bundle(entry(), kind="document")),
    "answer": lambda: by_put(bundle(entry(), kind="searchset")),
    "no type": lambda: by_put({"resourceType": "Bundle", "entry": [entry()]}),
    "no entry": lambda: over_rest(bundle()),
    "large transaction": lambda: over_rest(bundle(*[entry()] * 129)),
    "large batch": lambda: over_rest(bundle(*[entry()] * (MOST_ENTRIES + 1), kind="batch")),
    "rules": lambda: over_rest(bundle(entry(), implicitRules="https://example.org/rules")),
}
REFUSED_ENTRIES: dict[str, Callable[[], str]] = {
    "urn": lambda: over_rest(bundle(to(f"urn:uuid:{OTHER_ID}"))),
    "Type/id": lambda: over_rest(bundle(to("Encounter/17"))),
    "in a batch": lambda: over_rest(bundle(to(f"urn:uuid:{OTHER_ID}"), kind="batch")),
    "ifNoneExist": lambda: over_rest(with_request(**POST, ifNoneExist="identifier=1")),
    "conditional PUT": lambda: over_rest(with_request(method="PUT", url="Observation?identifier=1")),
    "search": lambda: over_rest(bundle(to("Encounter?identifier=1"))),
    "DELETE": lambda: over_rest(with_request(method="DELETE", url=f"Observation/{ID}")),
    "PATCH": lambda: over_rest(with_request(method="PATCH", url=f"Observation/{ID}")),
    "GET": lambda: over_rest(with_request(method="GET", url=f"Observation/{ID}")),
    "no request": lambda: over_rest(bundle({"resource": entry()["resource"]})),
    "no resource": lambda: over_rest(bundle({"request": POST})),
    "POST to an id": lambda: over_rest(with_request(method="POST", url=f"Observation/{ID}")),
    "PUT to another id": lambda: over_rest(with_request(method="PUT", url="Observation/17")),
    "another id": lambda: over_rest(bundle(entry(PUT, id=OTHER_ID))),
    "both": lambda: over_rest(bundle(entry({**PUT, "ifMatch": 'W/"3"', "ifNoneMatch": "*"}, id=ID))),
    "neither": lambda: by_put(bundle(entry(PUT, id=ID))),
    "twice": lambda: over_rest(bundle(*[entry({**PUT, "ifNoneMatch": "*"}, id=ID)] * 2)),
    "as two types": lambda: over_rest(
        bundle(*[{**entry(), "fullUrl": f"urn:uuid:{ID}"}, {**condition(), "fullUrl": f"urn:uuid:{ID}"}])
    ),
    "second Patient": lambda: by_put(bundle(PATIENT, PATIENT)),
    "Patient": lambda: over_rest(bundle(PATIENT)),
    "fullUrl": lambda: over_rest(bundle({**entry(), "fullUrl": "Observation/17"})),
    "modifierExtension": lambda: over_rest(bundle({**entry(), "modifierExtension": []})),
}
REFUSED_TEXTS: dict[str, bytes] = {
    "Latin-1": b'{"resourceType":"Observation","status":"final","note":[{"text":"\xe9"}]}',
    "mark": b"\xff\xfe{\0}\0",
    "UTF-16": "{}".encode("utf-16-le"),
    "NUL": b'{"a":"\\u0000"}',
    "twice": b'{"status":1,"status":2}',
    "half": b'{"a":"\\ud800"}',
    "NaN": b'{"a":NaN}',
    "range": b'{"a":1e400}',
    "two": b"{}\n{}",
    "deep": b"[" * 65 + b"]" * 65,
    "XML": b"<Patient/>",
    "nothing": b"",
    "else": b"resource",
}


def test_the_refusals_of_bundles_are_quoted_as_they_are() -> None:
    assert table("Bundles", "sent") == [plain(say()) for say in REFUSED_BUNDLES.values()]


def test_the_refusals_of_entries_are_quoted_as_they_are() -> None:
    assert table("Bundles", "in an entry") == [plain(say()) for say in REFUSED_ENTRIES.values()]


def test_what_is_said_of_a_text_that_is_no_json_is_quoted_as_it_is() -> None:
    told = table("JSON stays the bytes that it was", "what it is")
    assert told == [plain(of_text(raw)) for raw in REFUSED_TEXTS.values()]


@pytest.mark.parametrize(
    ("kind", "over_rest_too", "by_put_too"),
    re.findall(
        r"^\| (`[^|]+`) \| (yes|no)[^|]* \| (yes|no) \|",
        (DOCS / "fhir.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    ),
)
def test_which_kinds_of_bundle_each_way_takes_is_so(kind: str, over_rest_too: str, by_put_too: str) -> None:
    for name in re.findall(r"`([\w-]+)`", kind):
        document = bundle(entry(), kind=name)

        def takes(take: Callable[[], object]) -> str:
            try:
                take()
            except (Refused, Misuse):
                return "no"
            return "yes"

        raw = json.dumps(document).encode()
        assert takes(lambda raw=raw: incoming_bundle(checker(), raw)) == over_rest_too, name
        assert takes(lambda raw=raw: fhir.writes_of(raw, ADDRESS)) == by_put_too, name
