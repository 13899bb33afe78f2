"""What a resource says of itself is what its record is, in every form in which FHIR lets it say that."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from cbmdhi.protocol import resource as resources
from cbmdhi.protocol.ids import uuid7

MINE, OTHER = "cb1" + "a" * 32, "cb1" + "b" * 32
ID = uuid7()


def record(category: str = "observations", version: int = 1) -> Any:
    return SimpleNamespace(patient=MINE, record_id=ID, version=version, category=category)


def observation(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", **elements}


def about(reference: str, **more: Any) -> dict[str, Any]:
    return observation(subject={"reference": reference, **more})


def of(patient: str) -> dict[str, str]:
    return {"reference": f"Patient/{patient}"}


def bundle(*entries: dict[str, Any], **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "document", "entry": list(entries), **elements}


PATIENT = {"resourceType": "Patient", "id": "p"}
URN = "urn:uuid:0454d86b-2620-5063-b614-b2ccf7593f6e"


@pytest.mark.parametrize(
    "resource",
    [
        observation(),
        about(f"Patient/{MINE}"),
        about(f"Patient/{MINE}", identifier={"value": "MRN 7"}, display="Mrs. Doe"),
        about(f"Patient/{MINE}/_history/3"),
        about(f"https://fhir.lakeside.example/mesh/fhir/Patient/{MINE}"),
        observation(subject={"identifier": {"system": "urn:mercy", "value": "MRN 7"}}),
        observation(subject={"display": "Mrs. Doe"}),
        observation(subject=of(MINE), id=ID, meta={"versionId": "1", "tag": []}),
        about("#p", type="Patient") | {"contained": [PATIENT]},
        about(f"Patient/{MINE}") | {"contained": [observation(subject=of(MINE))]},
        # Not shaped as FHIR has it: the schema refuses it, this says nothing.
        observation(subject="text", contained="x", meta=[]),
    ],
)
def test_a_resource_about_its_patient_or_silent_about_it_is_the_records(resource: dict[str, Any]) -> None:
    resources.check(resource, record())


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (about(f"Patient/{OTHER}"), "Observation.subject.reference"),
        (about(f"Patient/{OTHER}/_history/1"), "Observation.subject.reference"),
        (about(f"https://fhir.mercy.example/fhir/Patient/{OTHER}"), "Observation.subject.reference"),
        (about("Patient/123"), "Observation.subject.reference"),
        (about("https://other.example/fhir/Patient/123"), "Observation.subject.reference"),
        (about(URN), "Observation.subject.reference"),
        (about(f"Group/{MINE}"), "Observation.subject.reference"),
        (about("#p"), "Observation.subject.reference"),
        (about(f"Patient/{MINE}", identifier={"value": OTHER}), "Observation.subject.identifier"),
        (observation(subject=[of(MINE), of(OTHER)]), "Observation.subject.reference"),
        (observation(id=uuid7()), "Observation.id"),
        (observation(id=7), "Observation.id"),
        (observation(meta={"versionId": "2"}), "Observation.meta.versionId"),
        ({"resourceType": "Condition"}, "body.put_record.category"),
        ({}, "body.put_record.category"),
        (
            about(f"Patient/{MINE}") | {"contained": [{"resourceType": "Condition", "subject": of(OTHER)}]},
            "Observation.contained[0].subject.reference",
        ),
        (
            about("#p") | {"contained": [{**PATIENT, "identifier": [{"value": OTHER}]}]},
            "Observation.contained[0].identifier[0]",
        ),
        (about("#p") | {"contained": [PATIENT, {**PATIENT, "id": "q"}]}, "Observation.contained[0]"),
        (about("#p") | {"contained": [{**PATIENT, "id": OTHER}]}, "Observation.contained[0].id"),
    ],
)
def test_a_resource_that_says_that_it_is_anothers_is_told_from_its_record(
    resource: dict[str, Any], path: str
) -> None:
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check(resource, record())
    assert caught.value.path == path
    assert OTHER not in caught.value.reason


@pytest.mark.parametrize("element", resources.PATIENT_ELEMENTS)
def test_wherever_a_type_names_its_patient(element: str) -> None:
    task = {"resourceType": "Task", element: of(OTHER)}
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check(task, record("care-plans"))
    assert caught.value.path == f"Task.{element}.reference"
    resources.check({"resourceType": "Task", element: of(MINE)}, record("care-plans"))


def test_a_bundle_is_about_the_patient_that_it_carries_or_names_by_address() -> None:
    entry = {"fullUrl": URN, "resource": PATIENT}
    for reference in (URN, "Patient/p", f"Patient/{MINE}"):
        resources.check(bundle(entry, {"resource": about(reference)}), record("other"))
    resources.check(bundle({"resource": about(f"Patient/{MINE}")}, id=ID), record("other"))
    inner = {"resourceType": "Parameters", "parameter": [{"part": [{"resource": about("Patient/p")}]}]}
    resources.check(bundle(entry, {"resource": inner}), record("other"))


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (bundle({"resource": about(URN)}), "Bundle.entry[0].resource.subject.reference"),
        (
            bundle({"fullUrl": URN, "resource": PATIENT}, {"resource": about("Patient/q")}),
            "Bundle.entry[1].resource.subject.reference",
        ),
        (
            bundle({"fullUrl": URN, "resource": PATIENT}, {"resource": about(f"Patient/{OTHER}")}),
            "Bundle.entry[1].resource.subject.reference",
        ),
        (
            bundle({"fullUrl": f"https://x.example/Patient/{OTHER}", "resource": PATIENT}),
            "Bundle.entry[0].resource",
        ),
        (bundle({"resource": bundle({"resource": about("Patient/q")})}), None),
        (bundle({"response": {"outcome": about(f"Patient/{OTHER}")}}), None),
        (bundle(id=uuid7()), "Bundle.id"),
    ],
)
def test_nobody_else_hides_in_a_bundle(resource: dict[str, Any], path: str | None) -> None:
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check(resource, record("other"))
    assert path is None or caught.value.path == path


def test_a_resource_of_a_record_has_its_id_and_nothing_of_a_servers_own() -> None:
    meta = {"versionId": "17", "lastUpdated": "2019-01-01T00:00:00Z", "profile": ["p"]}
    text = json.dumps(about(f"Patient/{MINE}") | {"id": "its-own", "meta": meta})
    made = json.loads(resources.as_record(text, ID, 1, by_server=True))
    assert (made["id"], made["meta"]) == (ID, {"profile": ["p"]})
    resources.check(made, record())


def of_a_file(text: str) -> str:
    return resources.as_record(text, ID, 2)


def test_a_file_that_says_nothing_else_of_itself_is_the_record_as_it_is() -> None:
    for text in (
        '{"resourceType":"Observation"}',
        '\n{ "status" : "final", "resourceType":"Observation" , "x":[1.10,1E2,"\\u00e4\\/"]}\r\n',
        f'{{"id":"{ID}","resourceType":"Observation","meta":{{"versionId":"2","lastUpdated":"2020"}}}}',
        '{"resourceType":"Observation","meta":{"lastUpdated":"2020"}}',
    ):
        assert of_a_file(text) == text


def test_only_what_a_record_cannot_say_is_changed_in_a_file() -> None:
    before = '{ "x":1.10,"meta": {"tag":[{"code":"a"}], "versionId":"9" ,"lastUpdated":"2020"},"id" : "old" }'
    assert of_a_file(before) == f'{{ "x":1.10,"meta": {{"tag":[{{"code":"a"}}]}},"id" : "{ID}" }}'
    assert of_a_file('{"meta":{"versionId":"9"},"x":"id"}') == '{"x":"id"}'
    assert (
        of_a_file('{"x":{"id":"in it"},"meta":{"versionId":"9","_lastUpdated":{}}}') == '{"x":{"id":"in it"}}'
    )


def test_a_document_keeps_its_own_id_and_version_but_not_that_of_another_record() -> None:
    document = {"resourceType": "Bundle", "type": "document", "id": "doc-1", "meta": {"versionId": "7"}}
    resources.check(document, record("other"))
    with pytest.raises(resources.SaysOtherwise):
        resources.check(document | {"id": uuid7()}, record("other"))
    with pytest.raises(resources.SaysOtherwise):
        resources.check(document | {"type": "collection"}, record("other"))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (
            '{"resourceType":"Observation","status":"final"}',
            '{{"resourceType":"Observation","id":"{id}","status":"final"}}',
        ),
        ('{"status":"final"}', '{{"id":"{id}","status":"final"}}'),
        ("{}", '{{"id":"{id}"}}'),
        (' { "id" : "old" }', ' {{ "id" : "{id}" }}'),
    ],
)
def test_a_resource_that_a_server_creates_gets_its_id_where_it_belongs(text: str, made: str) -> None:
    assert resources.as_record(text, ID, 1, by_server=True) == made.format(id=ID)


def test_a_file_may_begin_with_blanks() -> None:
    assert of_a_file('\n {"id":"old"}') == f'\n {{"id":"{ID}"}}'


@pytest.mark.parametrize(
    ("parameters", "where"),
    [
        ([{"resource": about(f"Patient/{OTHER}")}], "parameter[0].resource"),
        ([{}, {"part": [{"resource": about(f"Patient/{OTHER}")}]}], "parameter[1].part[0].resource"),
    ],
)
def test_nobody_else_hides_in_parameters(parameters: list[Any], where: str) -> None:
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check({"resourceType": "Parameters", "parameter": parameters}, record("other"))
    assert caught.value.path == f"Parameters.{where}.subject.reference"
    assert str(caught.value) == caught.value.reason
    assert "by address" in caught.value.reason


@pytest.mark.parametrize("reference", ["#", "Patient/", "#XXXX"])
def test_a_patient_without_an_id_is_meant_by_no_reference(reference: str) -> None:
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check(about(reference) | {"contained": [{"resourceType": "Patient"}]}, record())
    assert caught.value.path == "Observation.subject.reference"


def test_a_patient_holds_no_other_and_the_last_of_two_is_the_second() -> None:
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check({**PATIENT, "id": ID, "contained": [PATIENT]}, record("demographics"))
    assert caught.value.path == "Patient.contained[0]"
    three = [{**PATIENT, "id": name} for name in "pqr"]
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check(about("#p") | {"contained": three}, record())
    assert caught.value.path == "Observation.contained[0]"


def test_the_url_of_another_entry_is_not_the_patients() -> None:
    elsewhere = "urn:uuid:0454d86b-2620-5063-b614-b2ccf7593f6f"
    entries = [
        {"fullUrl": URN, "resource": PATIENT},
        {"fullUrl": elsewhere, "resource": observation()},
        {"resource": about(elsewhere)},
    ]
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.check(bundle(*entries), record("other"))
    assert caught.value.path == "Bundle.entry[2].resource.subject.reference"


def test_a_message_is_kept_whole_as_a_document_is_and_a_version_may_be_empty() -> None:
    message = {"resourceType": "Bundle", "type": "message", "id": "m-1", "meta": {"versionId": "7"}}
    resources.check(message, record("other"))
    resources.check(observation(meta={"versionId": ""}), record())


@pytest.mark.parametrize("element", resources.PATIENT_ELEMENTS)
def test_the_patient_of_a_resource_is_whom_it_names_by_address(element: str) -> None:
    for found in (of(MINE), [of(MINE)], {"reference": f"https://x.example/fhir/Patient/{MINE}/_history/2"}):
        assert resources.patient_of({"resourceType": "Task", element: found}) == MINE


@pytest.mark.parametrize(
    ("elements", "path"),
    [
        ({}, "Task.subject"),
        ({"for": None}, "Task.subject"),
        ({"for": [of(MINE), of(OTHER)]}, "Task.for"),
        ({"for": []}, "Task.for"),
        ({"for": of("123")}, "Task.for.reference"),
        ({"for": {"reference": 7}}, "Task.for.reference"),
        ({"for": {"display": "Mrs. Doe"}}, "Task.for.reference"),
        ({"for": f"Patient/{MINE}"}, "Task.for.reference"),
    ],
)
def test_a_resource_that_names_no_patient_or_two_has_none(elements: dict[str, Any], path: str) -> None:
    with pytest.raises(resources.SaysOtherwise) as caught:
        resources.patient_of({"resourceType": "Task", **elements})
    assert caught.value.path == path
    assert "atient" in caught.value.reason
