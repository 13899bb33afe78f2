"""A Bundle as a plain client sends it becomes what is committed to, and a refusal says in which entry."""

import copy
from typing import Any

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.incoming_bundle import IncomingEntry, in_entry, incoming_bundle
from services.runtime.refusal import Refused
from tests.support.fakes.gateway_people import Person, an_observation, checker

ADDRESS = Person().address


def entry(**changes: Any) -> dict[str, Any]:
    kept = {name: value for name, value in an_observation().items() if name not in ("encounter", "performer")}
    resource = {**kept, "subject": {"reference": f"Patient/{ADDRESS}"}, **changes}
    return {"resource": resource, "request": {"method": "POST", "url": "Observation"}}


def raw(*entries: Any, kind: str = "transaction") -> bytes:
    return orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})


def test_each_entry_is_about_the_patient_that_it_names_and_has_its_id() -> None:
    other = Person().address
    found = incoming_bundle(checker(), raw(entry(), entry(subject={"reference": f"Patient/{other}"})))
    assert (found.is_transaction, len(found.written)) == (True, 2)
    assert [one.incoming.patient for one in found.written] == [ADDRESS, other]
    assert [orjson.loads(one.incoming.content)["id"] for one in found.written] == [
        one.record_id for one in found.written
    ]


def test_numbers_of_an_entry_keep_every_digit() -> None:
    body = raw(entry(valueQuantity={"value": 7.25})).replace(b"7.25", b"7.250")
    [one] = incoming_bundle(checker(), body).written
    assert b'"valueQuantity":{"value":7.250}' in one.incoming.content


def test_a_transaction_is_refused_with_the_entry_and_of_a_batch_that_entry_alone() -> None:
    entries = entry(), entry(status="nope"), entry()
    with pytest.raises(Refused) as caught:
        incoming_bundle(checker(), raw(*entries))
    assert caught.value.path == "Bundle.entry[1].resource.status"
    assert caught.value.reason.startswith("Bundle.entry[1].resource.status is not")

    found = incoming_bundle(checker(), raw(*entries, kind="batch"))
    assert [isinstance(one, IncomingEntry) for one in found.entries] == [True, False, True]
    # As it comes out of the process beside, which reads what is large.
    again = copy.deepcopy(found)
    assert (again.written, again.entries[1].path) == (found.written, caught.value.path)


def test_a_batch_is_bounded_by_what_a_request_has_time_for() -> None:
    with pytest.raises(Refused) as caught:
        incoming_bundle(checker(), raw(*[entry()] * 1_001, kind="batch"))
    assert "1000" in caught.value.reason


@pytest.mark.parametrize(
    ("reason", "path", "wanted"),
    [
        ("Observation.status is bad", "Observation.status", "Bundle.entry[2].resource.status is bad"),
        ("the content is large", "content", "Bundle.entry[2]: the content is large"),
        ("this version is there", "body.put_record.version", "Bundle.entry[2]: this version is there"),
        ("no", "", "Bundle.entry[2]: no"),
    ],
)
def test_a_refusal_of_a_resource_says_in_which_entry(reason: str, path: str, wanted: str) -> None:
    assert in_entry(2, "Observation", reason, path)[0] == wanted


@pytest.mark.parametrize("kind", ["document", "searchset", "batch-response", "nonsense", None, 1])
def test_of_another_type_it_is_said_what_is_taken_here_and_where_the_others_go(kind: Any) -> None:
    document = {"resourceType": "Bundle", "type": kind, "entry": [entry()]}

    with pytest.raises(Refused) as caught:
        incoming_bundle(checker(), orjson.dumps(document))

    assert caught.value.path == "Bundle.type"
    assert caught.value.reason.startswith("Bundle.type is transaction or batch here: ")
    assert "over gRPC" in caught.value.reason


@pytest.mark.parametrize("body", [b"[]", b'{"resourceType":"Observation"}', raw(entry(), kind="document")])
def test_what_is_neither_a_transaction_nor_a_batch_is_sent_elsewhere(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        incoming_bundle(checker(), body)
    assert (caught.value.code, caught.value.path) == (code_pb2.CODE_INVALID, "Bundle.type")
    assert caught.value.reason.startswith("Bundle.type is transaction or batch here")


def test_an_entry_says_where_it_stood_what_it_is_and_which_version() -> None:
    own = uuid7()
    put = entry(id=own)
    put["request"] = {"method": "PUT", "url": f"Observation/{own}", "ifMatch": 'W/"3"'}
    [_, one] = incoming_bundle(checker(), raw(entry(), put)).written
    assert (one.index, one.kind, one.record_id, one.version) == (1, "Observation", own, 4)


def test_of_a_batch_an_entry_that_cannot_be_is_refused_with_its_place_and_code() -> None:
    delete = {"request": {"method": "DELETE", "url": "Observation/1"}}
    found = incoming_bundle(checker(), raw(delete, entry(status="nope"), kind="batch"))
    refused = [(one.code, one.path) for one in found.entries if isinstance(one, Refused)]
    assert refused == [
        (code_pb2.CODE_INVALID, "Bundle.entry[0].request.method"),
        (code_pb2.CODE_INVALID, "Bundle.entry[1].resource.status"),
    ]
