"""A transaction is all or nothing, and what its entries say of one another holds where they are records."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from importlib import resources as files
from typing import Any

import pytest

from cbmdhi.protocol import bundle
from cbmdhi.protocol.bundle import Entry, NotTaken
from cbmdhi.protocol.bundle_references import URI_ELEMENTS, Links, Target
from cbmdhi.protocol.ids import is_uuid7, uuid7

MINE = "cb1" + "a" * 32
A, B = (f"urn:uuid:{number}1111111-1111-4111-8111-111111111111" for number in (1, 2))
HERE = "https://lab.example/fhir"


def observation(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "subject": {"reference": f"Patient/{MINE}"}, **elements}


def post(resource: dict[str, Any], full_url: str = "", **request: Any) -> dict[str, Any]:
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"], **request}}
    return {"fullUrl": full_url, **entry} if full_url else entry


def put(resource: dict[str, Any], full_url: str = "", **request: Any) -> dict[str, Any]:
    url = f"{resource['resourceType']}/{resource['id']}"
    return post(resource, full_url, **{"method": "PUT", "url": url, **request})


def read(*entries: Any, kind: str = "transaction", patient: str = MINE) -> list[Entry | NotTaken]:
    document = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    return bundle.entries(json.dumps(document), document, patient)


def together(*entries: Any, patient: str = MINE) -> list[Entry]:
    found = read(*entries, patient=patient)
    assert all(isinstance(one, Entry) for one in found)
    return [one for one in found if isinstance(one, Entry)]


def refusal(*entries: Any, kind: str = "transaction", patient: str = MINE) -> NotTaken:
    with pytest.raises(NotTaken) as caught:
        read(*entries, kind=kind, patient=patient)
    return caught.value


def said(entry: Entry) -> dict[str, Any]:
    return json.loads(entry.text)


def place(entry: Entry) -> str:
    return f"{entry.kind}/{entry.record_id}"


def led(reference: str, full_url: str = "", *, to: dict[str, Any]) -> tuple[str, Entry]:
    """Where a reference of a second entry leads, and the first one, which is as given."""
    first, second = together(to, post(observation(hasMember=[{"reference": reference}]), full_url))
    return said(second)["hasMember"][0]["reference"], first


@pytest.mark.parametrize(
    ("first_url", "own_id", "second_url", "reference", "wanted"),
    [
        (A, "", B, A, "{place}"),
        (A, "", "", A, "{place}"),
        (A, "", B, f"{A}#part", "{place}#part"),
        (f"{HERE}/Observation/7", "7", f"{HERE}/Observation/8", "Observation/7", "{place}"),
        (f"{HERE}/Observation/7", "7", f"{HERE}/Observation/8", f"{HERE}/Observation/7", "{place}"),
        (f"{HERE}/Observation/7", "7", "", f"{HERE}/Observation/7/_history/3", "{place}/_history/1"),
        (f"{HERE}/Observation/7", "7", B, "Observation/7", "{place}"),
        ("", "7", "", "Observation/7", "{place}"),
        (
            A,
            "",
            B,
            "https://elsewhere.example/fhir/Observation/7",
            "https://elsewhere.example/fhir/Observation/7",
        ),
        (A, "", B, "#contained", "#contained"),
        (f"{HERE}/Observation/7", "7", "https://other.example/Observation/8", "Observation/7", ""),
    ],
)
def test_every_kind_of_reference_leads_to_the_record_that_the_entry_became(
    first_url: str, own_id: str, second_url: str, reference: str, wanted: str
) -> None:
    to = post(observation(**({"id": own_id} if own_id else {})), first_url)
    found, first = led(reference, second_url, to=to)
    assert is_uuid7(first.record_id)
    if not wanted:  # of another server's resource of that name
        wanted = f"https://other.example/{reference}"
    assert found == wanted.format(place=place(first))


def test_a_reference_to_a_record_that_is_there_stays() -> None:
    there = f"Observation/{uuid7()}"
    assert led(there, to=post(observation()))[0] == there
    first, second = together(
        put(observation(id=uuid7()), A, ifMatch='W/"3"'), post(observation(hasMember=[{"reference": A}]))
    )
    assert (first.version, said(second)["hasMember"][0]["reference"]) == (4, place(first))


def test_attachments_narrative_and_identifying_urls_lead_there_too_and_canonicals_do_not() -> None:
    div = (
        f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{A}">scan</a> <img SRC = \'{A}\' alt="{A}"/>'
        ' <a href="#part">x</a><a href="https://lab.example/?a=1&amp;b=2">y</a></div>'
    )
    report = {
        "resourceType": "DiagnosticReport",
        "text": {"status": "generated", "div": div},
        "presentedForm": [{"contentType": "application/pdf", "url": A}],
        "instantiatesUri": [A],
        "instantiatesCanonical": [A],
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": A}],
        "extension": [
            {"url": "http://example.org/e", "valueUri": A},
            {"url": "urn:uuid:e", "valueString": A},
        ],
    }
    binary, written = together(
        post({"resourceType": "Binary", "contentType": "application/pdf"}, A), post(report)
    )
    found, there = said(written), place(binary)
    assert found["text"]["div"] == div.replace(f'href="{A}"', f'href="{there}"').replace(
        f"'{A}'", f"'{there}'"
    )
    assert (found["presentedForm"][0]["url"], found["instantiatesUri"]) == (there, [there])
    assert (found["instantiatesCanonical"], found["identifier"][0]["value"]) == ([A], A)
    assert [one.get("valueUri", one.get("valueString")) for one in found["extension"]] == [there, A]


def test_the_bundles_patient_is_who_the_records_are_about() -> None:
    patient = {"resourceType": "Patient", "id": "p"}
    for reference, full_url in ((A, A), ("Patient/p", ""), ("Patient/p", f"{HERE}/Patient/p")):
        entries = together(
            post(patient, full_url), post({**observation(), "subject": {"reference": reference}})
        )
        assert said(entries[1])["subject"]["reference"] == f"Patient/{MINE}"


def test_all_that_is_no_reference_stays_to_the_byte() -> None:
    inner = f'{{ "resourceType" : "Observation",\r\n"value":1.10 ,"focus":[{{"reference":"{A}"}}]}}'
    text = (
        f'{{"resourceType":"Bundle","type":"transaction","entry":[{{"resource":{inner},"fullUrl":"{A}",'
        '"request":{"method":"POST","url":"Observation"}}]}'
    )
    [entry] = bundle.entries(f"\r\n {text}", json.loads(text), MINE)
    assert isinstance(entry, Entry)
    told = '"Observation"'
    changed = inner.replace(A, place(entry)).replace(told, f'{told},"id":"{entry.record_id}"')
    assert entry.text == changed


LINK = "Bundle.entry[0].resource.hasMember[0].reference"


@pytest.mark.parametrize(
    ("entry", "path", "advice"),
    [
        (post(observation(hasMember=[{"reference": B}]), A), LINK, "send it along"),
        (post(observation(hasMember=[{"reference": "Observation/7"}]), A), LINK, "UUIDv7"),
        (post(observation(hasMember=[{"reference": "Observation?code=x"}]), A), LINK, "identifier"),
        (post(observation(hasMember=[{"reference": "seven"}]), A), LINK, "Type/id"),
        (
            post(observation(text={"div": f'<div><a href="{B}">x</a></div>'})),
            "Bundle.entry[0].resource.text.div",
            "send it along",
        ),
        (
            post({"resourceType": "Media", "content": {"url": "Binary/7"}}),
            "Bundle.entry[0].resource.content.url",
            "send it along",
        ),
        (
            post(observation(), ifNoneExist="identifier=1"),
            "Bundle.entry[0].request.ifNoneExist",
            "ifNoneMatch `*`",
        ),
        (post(observation(), ifMatch='W/"1"'), "Bundle.entry[0].request.ifMatch", "not for a POST"),
        (post(observation(), url="Patient"), "Bundle.entry[0].request.url", "type of the resource"),
        (post(observation(), method="DELETE"), "Bundle.entry[0].request.method", "entered-in-error"),
        (post(observation(), method="PATCH"), "Bundle.entry[0].request.method", "PUT"),
        (post(observation(), method="GET"), "Bundle.entry[0].request.method", "by itself"),
        (post(observation(), method="post"), "Bundle.entry[0].request.method", "POST or PUT"),
        (put(observation(id="7")), "Bundle.entry[0].request.url", "UUIDv7"),
        (put(observation(id="7"), url="Observation?identifier=7"), "Bundle.entry[0].request.url", "search"),
        (
            put(observation(id=uuid7()), url=f"Observation/{uuid7()}"),
            "Bundle.entry[0].resource.id",
            "the id of",
        ),
        (put(observation(id=uuid7()), ifMatch="1"), "Bundle.entry[0].request", "ifMatch"),
        (put(observation(id=uuid7()), ifMatch='"1"', ifNoneMatch="*"), "Bundle.entry[0].request", "ifMatch"),
        (post(observation(), "Observation/7"), "Bundle.entry[0].fullUrl", "absolute"),
        (post(observation(), f"{HERE}/Observation/7/_history/1"), "Bundle.entry[0].fullUrl", "version"),
        (post(observation()) | {"modifierExtension": []}, "Bundle.entry[0]", "modifierExtension"),
        ({"resource": observation()}, "Bundle.entry[0].request", "POST"),
        ({"request": {"method": "POST", "url": "Observation"}}, "Bundle.entry[0].resource", "needed"),
        ("x", "Bundle.entry[0].request", "needed"),
    ],
)
def test_what_cannot_be_done_refuses_all_of_a_transaction_with_what_to_do(
    entry: Any, path: str, advice: str
) -> None:
    good = post(observation())
    why = refusal(entry, good)
    assert (why.path, advice in why.reason) == (path, True), why.reason
    assert why.reason.startswith(path)
    moved = refusal(good, entry)
    assert moved.path == path.replace("[0]", "[1]", 1)


def test_of_a_batch_each_entry_is_by_itself() -> None:
    found = read(
        post(observation(), A),
        post(observation(hasMember=[{"reference": A}])),
        post(observation()),
        kind="batch",
    )
    assert [isinstance(one, Entry) for one in found] == [True, False, True]
    assert isinstance(found[1], NotTaken)
    assert "a transaction" in found[1].reason


def test_two_entries_do_not_write_the_same_and_two_patients_are_two_bundles() -> None:
    again = observation(id=uuid7())
    assert "entry[0]" in refusal(put(again), put(again)).reason
    assert "entry[0]" in refusal(post(observation(), A), post(observation(), A)).reason
    found = read(put(again, ifMatch='"1"'), put(again, ifMatch='"2"'), post(observation()), kind="batch")
    assert [isinstance(one, Entry) for one in found] == [True, False, True]
    patient = {"resourceType": "Patient"}
    assert refusal(post(patient), post(patient)).path == "Bundle.entry[1]"
    assert "by address" in refusal(post(patient), patient="").reason


def test_a_transaction_is_one_commit_and_so_bounded() -> None:
    assert len(together(*[post(observation())] * 128)) == 128
    why = refusal(*[post(observation())] * 129)
    assert (why.path, "at most 128" in why.reason, "batch" in why.reason) == ("Bundle.entry", True, True)
    assert len(read(*[post(observation())] * 129, kind="batch")) == 129
    assert refusal().path == "Bundle.entry"


@pytest.mark.parametrize("kind", ["document", "message", "collection"])
def test_what_is_one_thing_is_not_taken_apart(kind: str) -> None:
    assert not bundle.is_taken_apart({"resourceType": "Bundle", "type": kind})
    assert not bundle.is_taken_apart({"resourceType": "Observation", "type": "transaction"})


@pytest.mark.parametrize(
    "kind", ["searchset", "history", "transaction-response", "batch-response", None, "x"]
)
def test_a_servers_answer_and_a_bundle_of_no_type_are_nothing_to_write(kind: str | None) -> None:
    with pytest.raises(NotTaken) as caught:
        bundle.is_taken_apart({"resourceType": "Bundle", "type": kind})
    assert (caught.value.path, "transaction" in caught.value.reason) == ("Bundle.type", True)


def test_a_document_in_a_transaction_stays_whole() -> None:
    document = {
        "resourceType": "Bundle",
        "type": "document",
        "id": "doc-1",
        "entry": [
            {
                "fullUrl": A,
                "resource": {"resourceType": "Composition", "section": [{"entry": [{"reference": B}]}]},
            }
        ],
    }
    [entry] = together(post(document))
    assert entry.text == json.dumps(document)


def test_a_bundle_does_not_grow_without_end_by_where_it_comes_from() -> None:
    root = f"{HERE}/{'a' * 1_900}"
    for named in (
        {"hasMember": [{"reference": "Observation/9"}] * 10_000},
        {"text": {"status": "generated", "div": "<a href='Observation/9'/>" * 10_000}},
    ):
        assert "grows too much" in str(refusal(post(observation(**named), f"{root}/Observation/8")))


def test_a_full_url_has_an_end() -> None:
    why = refusal(post(observation(), f"{HERE}/{'a' * 2_048}/Observation/8"))
    assert (why.path, "2048 characters" in why.reason) == ("Bundle.entry[0].fullUrl", True)


def test_where_one_reference_leads_is_found_out_once() -> None:
    """What was seen: of 260 KB read for 55 s, since each reference was held against each entry's URL."""
    own = uuid7()
    alike = [post(observation(id=own), f"https://{'/' * 1_500}{number}") for number in range(120)]
    many = observation(hasMember=[{"reference": f"Observation/{own}"}] * 10_000)
    together(*alike, post(many))


def test_entries_are_counted_before_any_is_looked_at() -> None:
    document: dict[str, Any] = {"resourceType": "Bundle", "type": "batch", "entry": [{}] * 1_001}
    with pytest.raises(NotTaken) as caught:
        bundle.entries(json.dumps(document), document, most=1_000)
    assert caught.value.path == "Bundle.entry"
    assert len(bundle.entries(json.dumps(document), document)) == 1_001


def test_the_elements_that_hold_a_uri_are_those_of_the_schema() -> None:
    raw = (files.files("services.gateway") / "schema" / "fhir-r4-4.0.1.schema.json.gz").read_bytes()
    definitions = json.loads(gzip.decompress(raw))["definitions"]
    found: set[str] = set()
    for body in definitions.values():
        for name, element in body.get("properties", {}).items():
            of = element.get("$ref") or element.get("items", {}).get("$ref", "")
            if of.rpartition("/")[2] in ("uri", "url", "oid", "uuid"):
                found.add(name)
    assert found | {f"value{kind}" for kind in ("Uri", "Url", "Oid", "Uuid")} == URI_ELEMENTS


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_an_id_of_the_source_in_two_types_becomes_two_records(kind: str) -> None:
    condition = {**observation(id="1"), "resourceType": "Condition"}
    other = observation(id="2", focus=[{"reference": "Condition/1"}, {"reference": "Observation/1"}])
    found = read(
        post(observation(id="1"), f"{HERE}/Observation/1"),
        post(condition, f"{HERE}/Condition/1"),
        *([post(other, f"{HERE}/Observation/2")] if kind == "transaction" else []),
        kind=kind,
    )

    entries = [one for one in found if isinstance(one, Entry)]
    assert len({one.record_id for one in entries}) == len(entries) == len(found)
    assert [one.kind for one in entries][:2] == ["Observation", "Condition"]
    if kind == "transaction":
        places = [one["reference"] for one in said(entries[2])["focus"]]
        assert places == [place(entries[1]), place(entries[0])]


def test_an_id_of_a_record_is_not_written_as_two_types() -> None:
    mine = observation(id=uuid7())
    condition = {**mine, "resourceType": "Condition"}

    why = refusal(put(mine), put(condition))
    first, second = read(put(mine), put(condition), kind="batch")

    assert why.path == "Bundle.entry[1]"
    assert "entry[0], of another type" in why.reason
    assert isinstance(first, Entry)
    assert isinstance(second, NotTaken)


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_a_transaction_and_a_batch_are_taken_apart(kind: str) -> None:
    assert bundle.is_taken_apart({"resourceType": "Bundle", "type": kind})


@pytest.mark.parametrize("name", ["implicitRules", "modifierExtension"])
def test_a_bundle_that_says_it_means_something_else_is_not_taken(name: str) -> None:
    document = {"resourceType": "Bundle", "type": "batch", "entry": [post(observation())], name: "x"}
    with pytest.raises(NotTaken) as caught:
        bundle.entries(json.dumps(document), document, MINE)
    assert caught.value.path == f"Bundle.{name}"


def test_an_update_is_the_next_version_the_first_or_the_one_after_that_which_it_names() -> None:
    def version(**conditions: str) -> int:
        [entry] = together(put(observation(id=uuid7()), **conditions))
        return entry.version

    assert version() == 0  # whichever is next
    assert version(ifNoneMatch="*") == 1
    assert version(ifMatch='W/"3"') == version(ifMatch='"3"') == 4


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (put(observation(id=uuid7()), ifNoneMatch='W/"1"'), "Bundle.entry[0].request"),
        (put(observation(id=uuid7()), ifModifiedSince="2026"), "Bundle.entry[0].request.ifModifiedSince"),
        (post(observation(), modifierExtension=[]), "Bundle.entry[0]"),
        (post({"resourceType": 7}, url="Observation"), "Bundle.entry[0]"),
        (post(observation(), url=7), "Bundle.entry[0]"),
        (post({"resourceType": "Patient"}), "Bundle.entry[0].resource"),
    ],
)
def test_an_entry_that_means_something_else_or_nothing_is_refused_where_it_says_so(
    entry: dict[str, Any], path: str
) -> None:
    assert refusal(entry, patient="").path == path


def test_who_is_meant_by_a_patient_is_said_or_the_bundle_is_refused() -> None:
    document = {"resourceType": "Bundle", "type": "transaction", "entry": [post({"resourceType": "Patient"})]}
    with pytest.raises(NotTaken, match="by address"):
        bundle.entries(json.dumps(document), document)


def test_a_document_that_is_posted_keeps_an_id_that_can_be_a_records() -> None:
    own = uuid7()

    def record_id(posted: dict[str, Any]) -> str:
        [entry] = together(post(posted))
        return entry.record_id

    document = {"resourceType": "Bundle", "type": "document", "entry": []}
    assert record_id({**document, "id": own}) == own
    for other in (observation(id=own), {**document, "id": "doc-1"}, document):
        assert record_id(other) != own
        assert is_uuid7(record_id(other))


def test_an_entry_without_an_id_is_meant_by_none() -> None:
    for name in ("None", "XXXX"):
        report = {"resourceType": "DiagnosticReport", "result": [{"reference": f"Observation/{name}"}]}
        why = refusal(post(observation(), A), post(report))
        assert "no record here" in why.reason


def test_the_longest_url_and_the_most_entries_are_taken() -> None:
    longest = f"{HERE}/".ljust(2_048, "a")
    [entry] = together(post(observation(), longest))
    assert entry.path == "Bundle.entry[0].resource"
    assert refusal(post(observation(), longest + "a")).path == "Bundle.entry[0].fullUrl"
    document: dict[str, Any] = {"resourceType": "Bundle", "type": "batch", "entry": [post(observation())] * 3}
    found = bundle.entries(json.dumps(document), document, MINE, most=3)
    assert [one.path for one in found] == [f"Bundle.entry[{place}].resource" for place in range(3)]


def test_whichever_entry_writes_the_same_again_is_the_one_that_is_refused() -> None:
    again = put(observation(id=uuid7()))
    assert refusal(post(observation()), again, again).path == "Bundle.entry[2]"


def test_a_resource_that_is_none_is_not_looked_into() -> None:
    found = read("x", "", [], post(observation()), kind="batch")
    assert [isinstance(one, Entry) for one in found] == [False, False, False, True]


def test_a_bundle_may_grow_by_its_own_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "LEAST_ROOM", 0)
    few = post(observation(hasMember=[{"reference": "Observation/9"}] * 5), f"{HERE}/Observation/8")
    many = post(
        observation(hasMember=[{"reference": "Observation/9"}] * 500), f"{HERE}/{'a' * 200}/Observation/8"
    )
    together(few)
    assert "grows too much" in refusal(many).reason


@pytest.mark.parametrize(
    ("first_url", "own_id", "second_url", "reference"),
    [
        # By the server's address alone: the resource has another id, or none.
        (f"{HERE}/Observation/7", "", f"{HERE}/Observation/8", "Observation/7"),
        # By its id alone: the URL says nothing of a server.
        (A, "7", f"{HERE}/Observation/8", "Observation/7"),
    ],
)
def test_a_relative_reference_leads_by_either_name(
    first_url: str, own_id: str, second_url: str, reference: str
) -> None:
    to = post(observation(**({"id": own_id} if own_id else {})), first_url)
    found, first = led(reference, second_url, to=to)
    assert found == place(first)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_what_is_elsewhere_stays_there_whatever_its_url_asks(scheme: str) -> None:
    there = f"{scheme}://elsewhere.example/fhir/Observation?code=x"
    assert led(there, to=post(observation()))[0] == there


def test_a_patient_of_a_batch_is_who_its_entries_are_about() -> None:
    patient = post({"resourceType": "Patient"}, A)
    found = read(patient, post({**observation(), "subject": {"reference": A}}), kind="batch")
    assert isinstance(found[1], Entry)
    assert said(found[1])["subject"]["reference"] == f"Patient/{MINE}"


def test_what_leads_nowhere_is_told_in_the_words_of_what_was_sent() -> None:
    astray = post(observation(hasMember=[{"reference": B}]), A)
    assert "nothing in this Bundle" in refusal(astray).reason
    [refused] = read(astray, kind="batch")
    assert isinstance(refused, NotTaken)
    assert "an entry of a batch can name" in refused.reason


def test_a_version_that_is_not_known_yet_cannot_be_meant() -> None:
    own = uuid7()
    target = put(observation(id=own), f"{HERE}/Observation/{own}")
    [_, found] = together(target, post(observation(hasMember=[{"reference": f"{HERE}/Observation/{own}"}])))
    assert said(found)["hasMember"][0]["reference"] == f"Observation/{own}"
    meant = observation(hasMember=[{"reference": f"{HERE}/Observation/{own}/_history/1"}])
    why = refusal(post(meant), target)
    assert (why.path, "not known yet" in why.reason) == (LINK, True)


def test_an_address_is_the_id_of_a_patient_and_of_nothing_else() -> None:
    assert led(f"Patient/{MINE}", to=post(observation()))[0] == f"Patient/{MINE}"
    for reference in (f"Observation/{MINE}", "Patient/7"):
        assert refusal(post(observation(hasMember=[{"reference": reference}]))).path == LINK


def test_urls_in_attachments_and_narrative_that_are_relative_are_those_of_their_server() -> None:
    div = '<div><a href="Binary/9">x</a></div>'
    media = {"resourceType": "Media", "content": {"url": "Binary/9"}, "text": {"div": div}}
    [entry] = together(post(media, f"{HERE}/Media/1"))
    assert said(entry)["content"]["url"] == f"{HERE}/Binary/9"
    assert said(entry)["text"]["div"] == div.replace("Binary", f"{HERE}/Binary")


def test_what_only_looks_like_a_reference_is_one_where_an_entry_has_that_url() -> None:
    oid = "urn:oid:1.2.3"
    div = f'<div><a href="{oid}">x</a></div>'
    media = {
        "resourceType": "Media",
        "content": [{"url": oid}, {"url": "ftp://old.example/scan"}],
        "modifierExtension": [{"url": "Binary/9"}],
        "text": {"div": div},
    }
    binary, written = together(post({"resourceType": "Binary"}, oid), post(media, f"{HERE}/Media/1"))
    assert said(written)["content"] == [{"url": place(binary)}, {"url": "ftp://old.example/scan"}]
    assert said(written)["text"]["div"] == div.replace(oid, place(binary))
    assert said(written)["modifierExtension"] == [{"url": "Binary/9"}]


def test_a_resource_grows_by_its_room_and_no_further() -> None:
    path, root = "Bundle.entry[0].resource", f"{HERE}/"
    text = '{"hasMember":[{"reference":"Observation/9"}]}'

    def grown(room: int, text: str = text, root: str = root, targets: Sequence[Target] = ()) -> str:
        links = Links(targets, MINE, is_transaction=True, room=room)
        return links.rewritten(text, path, root)

    assert len(grown(len(root))) == len(text) + len(root)
    with pytest.raises(NotTaken) as caught:
        grown(len(root) - 1)
    assert caught.value.path == path
    # What becomes shorter makes no room, and takes none.
    target = Target("Observation", "r", 1, "https://long.example/Observation/7", "")
    shorter = '{"reference":"https://long.example/Observation/7"}'
    assert grown(0, shorter, targets=[target]) == '{"reference":"Observation/r"}'


def test_links_in_a_narrative_are_counted_before_any_is_followed() -> None:
    path, root = "Bundle.entry[0].resource", "r" * 100
    three = "<a href='https://x.example'/>" * 3

    def looked_at(name: str, room: int) -> str:
        text = json.dumps({name: three})
        return Links((), MINE, is_transaction=True, room=room).rewritten(text, path, root)

    assert looked_at("div", 300) == json.dumps({"div": three})
    assert looked_at("note", 0) == json.dumps({"note": three})
    with pytest.raises(NotTaken) as caught:
        looked_at("div", 299)
    assert caught.value.path == path
