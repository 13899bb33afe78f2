"""Transactions and batches over HTTPS, inside a delegation."""

from typing import Any

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from tests.contract.gateway_app import App, about_the_patient, issue, ready_to_write
from tests.support.fakes.gateway_people import checker

pytest_plugins = ("tests.contract.gateway_fixtures",)

A = "urn:uuid:11111111-1111-4111-8111-111111111111"


def post(resource: dict[str, Any], full_url: str = "", **request: Any) -> dict[str, Any]:
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"], **request}}
    return {"fullUrl": full_url, **entry} if full_url else entry


def put(resource: dict[str, Any], **request: Any) -> dict[str, Any]:
    return post(resource, method="PUT", url=f"{resource['resourceType']}/{resource['id']}", **request)


def bundle(*entries: Any, kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def answered(body: bytes, kind: str) -> list[dict[str, Any]]:
    assert checker().check(body) == "Bundle"
    found = orjson.loads(body)
    assert found["type"] == kind
    return found["entry"]


def path_of(entry: dict[str, Any]) -> str:
    return "/fhir/" + entry["response"]["location"].split("/fhir/")[1].partition("/_history")[0]


async def test_a_transaction_is_one_group_and_its_references_lead_to_what_it_wrote(app: App) -> None:
    await ready_to_write(app)
    first, second = about_the_patient(), about_the_patient(hasMember=[{"reference": A}])

    status, body, headers = await app.send("POST", "/fhir", bundle(post(first, A), post(second)))

    entries = answered(body, "transaction-response")
    assert (status, [one["response"]["status"] for one in entries]) == (200, ["201 Created"] * 2)
    [submission] = app.member.ledger.submitted[-1]
    signed = submission.item.group.commands
    assert [one.signer for one in signed] == [app.member.device.address] * 2
    ids = [command.parse(one)[0].command_id for one in signed]
    told = [one["response"]["outcome"]["issue"][0]["diagnostics"] for one in entries]
    assert all(
        found in said and headers["Cbmdhi-Transaction"] in said for found, said in zip(ids, told, strict=True)
    )
    read = orjson.loads((await app.get(path_of(entries[1])))[1])
    assert f"/fhir/{read['hasMember'][0]['reference']}" == path_of(entries[0])
    assert f"/fhir/Observation/{read['id']}" == path_of(entries[1])


async def test_of_a_transaction_with_one_bad_entry_nothing_is_written_and_the_entry_is_told(app: App) -> None:
    await ready_to_write(app)
    good, submitted = about_the_patient(), len(app.member.ledger.submitted)
    wrong: list[tuple[dict[str, Any], int, str]] = [
        (post(about_the_patient(status="nope")), 400, "Bundle.entry[1].resource.status"),
        (
            post(about_the_patient(subject={"reference": "Patient/1"})),
            400,
            "Bundle.entry[1].resource.subject",
        ),
        (post(about_the_patient(hasMember=[{"reference": A}])), 400, "resource.hasMember[0].reference"),
        (post(good, ifNoneExist="identifier=1"), 400, "Bundle.entry[1].request.ifNoneExist"),
        (post(good, method="DELETE"), 400, "entered-in-error"),
        (post({"resourceType": "Patient"}), 400, "Patient/cb1"),
        (post({"resourceType": "Practitioner"}), 400, "Bundle.entry[1].resource.subject"),
    ]
    for entry, expected, said in wrong:
        status, body, headers = await app.send("POST", "/fhir", bundle(post(good), entry))
        assert (status, said in issue(body)["diagnostics"]) == (expected, True), issue(body)
        assert headers["Cbmdhi-Outcome"] == "NOT_DONE"
    assert len(app.member.ledger.submitted) == submitted
    assert app.member.storage.sealed_items == 0


async def test_what_the_channel_refuses_of_one_entry_it_refuses_of_all(app: App) -> None:
    await ready_to_write(app)
    submit = app.member.ledger.submit

    async def refusing(submissions: Any, seals: Any = ()) -> Any:
        header = command.parse(submissions[0].item.group.commands[1])[0]
        app.member.ledger.refuse[header.command_id] = (code_pb2.CODE_FORBIDDEN, "not a treating member")
        return await submit(submissions, seals)

    app.member.ledger.submit = refusing  # type: ignore[method-assign]
    entries = [post(about_the_patient()) for _ in range(3)]

    status, body, headers = await app.send("POST", "/fhir", bundle(*entries))

    assert (status, issue(body)["diagnostics"]) == (403, "Bundle.entry[1]: not a treating member")
    assert headers["Cbmdhi-Outcome"] == "COMMITTED"
    assert not app.member.ledger.records_kept


async def test_what_is_sent_again_under_ids_of_its_own_has_no_second_effect(app: App) -> None:
    await ready_to_write(app)
    one, other = (about_the_patient(id=uuid7()) for _ in range(2))
    asked = bundle(put(one, ifNoneMatch="*"), put(other, ifNoneMatch="*"))

    assert [(await app.send("POST", "/fhir/", asked))[0] for _ in range(2)] == [200, 409]

    then = bundle(put(one, ifMatch='W/"1"'), put(other))
    entries = answered((await app.send("POST", "/fhir", then))[1], "transaction-response")
    assert [found["response"]["etag"] for found in entries] == ['W/"2"'] * 2
    assert sorted(version for _, version in app.member.ledger.records_kept) == [1, 1, 2, 2]


async def test_of_a_batch_each_entry_is_answered_by_itself(app: App) -> None:
    await ready_to_write(app)
    bad = about_the_patient(status="nope")
    entries = [post(about_the_patient()), post(bad), post(about_the_patient(), ifNoneExist="a=b"), "x"]

    status, body, _ = await app.send(
        "POST",
        "/fhir",
        bundle(*entries, post(about_the_patient()), kind="batch"),
        Prefer="return=representation",
    )

    found = orjson.loads(body)
    told = [one["response"]["status"] for one in found["entry"]]
    assert (status, found["type"]) == (200, "batch-response")
    assert told == ["201 Created", "400 Bad Request", "400 Bad Request", "400 Bad Request", "201 Created"]
    assert found["entry"][0]["resource"] == orjson.loads((await app.get(path_of(found["entry"][0])))[1])
    diagnostics = found["entry"][1]["response"]["outcome"]["issue"][0]["diagnostics"]
    assert diagnostics.startswith("Bundle.entry[1].resource.status")
    assert len(app.member.ledger.records_kept) == 2


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (bundle(kind="document"), 400, "gRPC"),
        (bundle(kind="searchset"), 400, "transaction or batch"),
        (about_the_patient(), 400, "/fhir/<type>"),
        (bundle(*[post(about_the_patient())] * 129), 400, "at most 128"),
        (b"[]", 400, "/fhir/<type>"),
        (b"{", 400, "not JSON"),
        (b'{"resourceType":"Bundle","type":"batch","type":"transaction"}', 400, "twice"),
        (b" " * (16 * 1024 * 1024 + 1), 413, "16777216 bytes"),
    ],
)
async def test_what_is_no_transaction_is_refused_with_where_it_goes(
    app: App, body: Any, status: int, said: str
) -> None:
    await ready_to_write(app)
    found, answer, _ = await app.send("POST", "/fhir", body)
    assert (found, said in issue(answer)["diagnostics"]) == (status, True), issue(answer)
