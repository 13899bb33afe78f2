"""Valid resources pass; invalid ones are refused with the place, never with the value."""

import copy
from typing import Any

import orjson
import pytest
from carebundle import PROFILES
from jsonschema_rs import Draft6Validator

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import categories
from services.gateway.fhir.schema_loader import load_checker
from services.gateway.rest import outcome
from services.gateway.rest.fhir import capability_statement
from services.runtime.errors import MeshError
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_people import an_observation, bundle, checker, resources

SECRET = "Kilimanjaro"


def refusal_of(resource: Any) -> Refused:
    raw = resource if isinstance(resource, bytes) else orjson.dumps(resource)
    with pytest.raises(Refused) as caught:
        checker().check(raw)
    return caught.value


def changed(resource: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {**copy.deepcopy(resource), **members}


def without(resource: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in names}


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_resource_of_a_generated_history_passes_alone_and_in_its_bundle(profile: str) -> None:
    history = bundle(profile, 7)
    entries = history["entry"]
    assert isinstance(entries, list)

    assert checker().check(orjson.dumps(history)) == "Bundle"
    for entry in entries:
        resource = entry["resource"]
        assert checker().check(orjson.dumps(resource)) == resource["resourceType"]


def test_each_kind_of_fault_names_its_place() -> None:
    observation, patient = an_observation(), resources("Patient")[0]
    medication = next(one for one in resources("MedicationRequest"))
    no_medication = [name for name in medication if name.startswith("medication")]
    faults: list[tuple[dict[str, Any], str]] = [
        (without(observation, "status"), "Observation.status"),
        (without(observation, "code"), "Observation.code"),
        (changed(observation, status=SECRET), "Observation.status"),
        (changed(observation, colour=SECRET), "Observation.colour"),
        (changed(observation, effectiveDateTime=SECRET), "Observation.effectiveDateTime"),
        (changed(observation, valueQuantity={"value": SECRET}), "Observation.valueQuantity.value"),
        (changed(observation, valueQuantity=[SECRET]), "Observation.valueQuantity"),
        (changed(observation, valueString=SECRET), "Observation"),
        (changed(observation, component=[{"valueString": SECRET}]), "Observation.component[0].code"),
        (without(medication, *no_medication), "MedicationRequest.medication[x]"),
        (changed(patient, gender=SECRET), "Patient.gender"),
        (changed(patient, name=[{"family": [SECRET]}]), "Patient.name[0].family"),
        (
            changed(observation, contained=[{"resourceType": "Patient", "gender": SECRET}]),
            "Observation.contained[0].gender",
        ),
        (
            {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [{"resource": observation}, {"resource": without(observation, "status")}],
            },
            "Bundle.entry[1].resource.status",
        ),
        (
            {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "a", "part": [{"name": "b", "resource": changed(patient, active=SECRET)}]}
                ],
            },
            "Parameters.parameter[0].part[0].resource.active",
        ),
        ({"resourceType": SECRET}, "resource.resourceType"),
        ({"status": SECRET}, "resource.resourceType"),
    ]

    for resource, path in faults:
        refused = refusal_of(resource)
        assert (refused.code, refused.path) == (code_pb2.CODE_INVALID, path)
        assert SECRET not in refused.reason
        assert refused.reason.startswith(path)


def test_a_property_name_that_may_be_a_persons_is_not_repeated() -> None:
    refused = refusal_of(changed(an_observation(), **{"Ann Smith": 1}))

    assert refused.path == "Observation"
    assert "Ann" not in refused.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[1]",
        b'"Patient"',
        b'{"resourceType":"Patient","active":NaN}',
        b'{"resourceType":"Patient","id":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b'{"resourceType":"Patient","id":"\xff"}',
        b'{"resourceType":"Patient","gender":"male","gender":"female"}',
        b'{"resourceType":"Patient","gender":"ma\\u0000le"}',
        b'{"resourceType":"Patient","multipleBirthInteger":1e400}',
        b'{"resourceType":"Patient"}\n{"resourceType":"Patient"}',
        '{"resourceType":"Patient"}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_object_or_reads_differently_to_different_parsers_is_refused(raw: bytes) -> None:
    refused = refusal_of(raw)
    assert (refused.code, refused.path) == (code_pb2.CODE_INVALID, "content")
    assert "male" not in refused.reason


def test_what_reads_alike_everywhere_is_taken_however_it_is_written() -> None:
    raw = b'{ "resourceType":"Patient", "multipleBirthInteger" : 2 ,"language":"\\u0064e"}\n'
    assert checker().check(raw) == "Patient"


def test_depth_and_size_are_bounded_and_the_limit_is_told() -> None:
    extension: dict[str, Any] = {"url": "http://example.org"}
    for _ in range(40):
        extension = {"url": "http://example.org", "extension": [extension]}
    deep = refusal_of(changed(resources("Patient")[0], extension=[extension]))
    assert (deep.code, "64 levels" in deep.reason) == (code_pb2.CODE_TOO_LARGE, True)
    assert refusal_of(b'{"a":' * 900 + b"1" + b"}" * 900).code == code_pb2.CODE_TOO_LARGE
    deepest = refusal_of(b"[" * 100_000)
    assert (deepest.code, "64 levels" in deepest.reason) == (code_pb2.CODE_TOO_LARGE, True)

    large = refusal_of(b" " * (16 * 1024 * 1024 + 1))
    assert (large.code, "16 MiB" in large.reason) == (code_pb2.CODE_TOO_LARGE, True)


def test_an_extension_may_stand_for_a_required_primitive_and_a_null_may_keep_a_place() -> None:
    no_status = without(an_observation(), "status")
    extension = {"extension": [{"url": "http://example.org", "valueCode": "masked"}]}
    assert checker().check(orjson.dumps({**no_status, "_status": extension})) == "Observation"

    names = [{"given": [None, "x"], "_given": [{"id": "a"}, None]}]
    assert checker().check(orjson.dumps(changed(resources("Patient")[0], name=names))) == "Patient"
    alone = refusal_of(changed(resources("Patient")[0], name=[{"given": [None, "x"]}]))
    assert alone.path == "Patient.name[0].given[0]"


def test_vendors_types_that_came_with_the_schema_are_not_fhir() -> None:
    for name in ("Bot", "Project", "ClientApplication"):
        assert refusal_of({"resourceType": name}).path == "resource.resourceType"
    with_vendor = changed(resources("Patient")[0], meta={"project": "http://example.org"})
    assert refusal_of(with_vendor).path == "Patient.meta.project"


def test_the_schema_of_every_resource_type_can_be_used() -> None:
    schemas = load_checker()[1]

    assert len(schemas.types) == 146
    for name in schemas.types:
        assert Draft6Validator(schemas.of_type(name)).is_valid({"resourceType": SECRET}) is False


def test_what_the_gateway_itself_says_is_valid_fhir() -> None:
    types = {kind for category in categories.CATEGORIES for kind in categories.resources_of(category)}
    offered = capability_statement(types, {"Observation"}, "https://fhir.mercy.example/mesh/fhir")
    assert checker().check(orjson.dumps(offered)) == "CapabilityStatement"
    for code in code_pb2.Code.values():
        said = outcome.of_error(MeshError(code, "because"))
        assert checker().check(orjson.dumps(said)) == "OperationOutcome"
