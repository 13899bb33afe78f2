"""A resource as a plain client sends it becomes what is committed to."""

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol.resource import PATIENT_ELEMENTS
from services.gateway.domain.incoming import Incoming, incoming
from services.gateway.fhir.schema_loader import load_checker
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_people import Person, checker

ADDRESS = Person().address
PATIENT = {"reference": f"Patient/{ADDRESS}"}


def raw(**elements: object) -> bytes:
    return orjson.dumps({"resourceType": "Observation", "subject": PATIENT, **elements})


def made(body: bytes, record_id: str, *, names_id: bool) -> Incoming:
    return incoming(orjson.loads(body), body, record_id, names_id=names_id)


def test_all_that_was_written_stays_to_the_byte_and_the_id_is_added() -> None:
    body = (
        b'{\r\n  "resourceType" : "Observation",\r\n  "subject" : {"reference": "Patient/%s"},'
        b'"x": [1.10, 1e3, 12345678901234567890123, -0.0], "y":"M\\u00fcller \\/ \xc3\xa4" }\n'
    ) % ADDRESS.encode()
    told = b'"Observation"'
    assert made(body, "new", names_id=False).content == body.replace(told, told + b',"id":"new"')


def test_a_create_gets_the_servers_id_in_place_of_its_own() -> None:
    found = made(raw(id="mine"), "new", names_id=False)
    assert orjson.loads(found.content)["id"] == "new"
    assert found.patient == ADDRESS


@pytest.mark.parametrize("said", [{}, {"id": "another"}])
def test_an_update_says_the_id_of_its_url(said: dict[str, str]) -> None:
    with pytest.raises(Refused) as caught:
        made(raw(**said), "this", names_id=True)
    assert caught.value.path == "Observation.id"
    assert made(raw(id="this"), "this", names_id=True)


def test_version_and_time_are_the_servers_and_the_rest_of_meta_stays() -> None:
    meta = {"versionId": "3", "lastUpdated": "2020-01-01T00:00:00Z", "_lastUpdated": {}, "profile": ["p"]}
    assert orjson.loads(made(raw(meta=meta), "new", names_id=False).content)["meta"] == {"profile": ["p"]}
    emptied = orjson.loads(made(raw(meta={"versionId": "3"}), "new", names_id=False).content)
    assert "meta" not in emptied, "FHIR has no empty objects"


@pytest.mark.parametrize("element", PATIENT_ELEMENTS)
@pytest.mark.parametrize("shape", [lambda one: one, lambda one: [one]])
def test_the_patient_is_named_where_the_type_has_it(element: str, shape: object) -> None:
    body = orjson.dumps({"resourceType": "Task", element: shape(PATIENT)})  # type: ignore[operator]
    assert made(body, "new", names_id=False).patient == ADDRESS


@pytest.mark.parametrize(
    ("subject", "path"),
    [
        ({"reference": ADDRESS}, "Observation.subject.reference"),
        ({"reference": f"Group/{ADDRESS}"}, "Observation.subject.reference"),
        ({"reference": "Patient/cb1"}, "Observation.subject.reference"),
        ({"display": "Mrs. Doe"}, "Observation.subject.reference"),
        ("text", "Observation.subject.reference"),
        ([PATIENT, PATIENT], "Observation.subject"),
        ([], "Observation.subject"),
        (None, "Observation.subject"),
    ],
)
def test_a_resource_about_nobody_here_is_refused_without_saying_whom_it_named(
    subject: object, path: str
) -> None:
    with pytest.raises(Refused) as caught:
        made(raw(subject=subject), "new", names_id=False)
    assert caught.value.path == path
    assert "Doe" not in caught.value.reason
    assert ADDRESS not in caught.value.reason


def test_what_is_made_of_a_valid_resource_is_valid() -> None:
    body = raw(status="final", code={"text": "Pulse"}, valueQuantity={"value": 1.5}, meta={"versionId": "1"})
    checker().check(body)
    assert checker().check(made(body, "an-id", names_id=False).content) == "Observation"


def test_types_that_name_a_patient_can_be_written_and_others_not() -> None:
    types = load_checker()[1].with_any_of(PATIENT_ELEMENTS)
    assert {"Observation", "AllergyIntolerance", "Coverage", "Task", "Condition"} <= types
    assert not {"Practitioner", "Organization", "Bundle", "Patient", "Binary"} & types


def test_what_is_refused_says_with_which_code_and_where() -> None:
    for body, names_id, path in (
        (raw(id="another"), True, "Observation.id"),
        (orjson.dumps({"resourceType": "Observation"}), False, "Observation.subject"),
    ):
        with pytest.raises(Refused) as caught:
            made(body, "new", names_id=names_id)
        assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, path)
