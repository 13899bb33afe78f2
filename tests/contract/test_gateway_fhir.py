"""FHIR reads over HTTPS, inside a delegation."""

from typing import Any

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import uuid7
from services.gateway.domain import contents as content_rules
from tests.contract.gateway_app import CLINICIAN, PATIENT, App, issue, reading, ready_to_read, written
from tests.support.fakes.gateway_people import an_observation

pytest_plugins = ("tests.contract.gateway_fixtures",)


async def test_a_plain_fhir_client_reads_what_the_author_wrote_and_the_channel_says_who_for_whom(
    app: App,
) -> None:
    one = await ready_to_read(app)

    status, body, headers = await reading(app, f"/fhir/Observation/{one.body.record_id}")

    assert (status, body) == (200, one.contents[0].content)
    assert headers["Content-Type"] == "application/fhir+json"
    assert headers["ETag"] == 'W/"1"'
    assert headers["Last-Modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    signed = app.member.ledger.submitted[-1][0].item.group.commands[0]
    access = command.parse(signed)[1].access
    assert signed.signer == app.member.device.address
    assert signed.delegation.delegation
    assert (access.patient, access.version, access.purpose, access.action) == (
        PATIENT.address,
        1,
        "TREAT",
        "read",
    )

    status, body, _ = await app.get(
        f"/fhir/Observation/{one.body.record_id}/_history/1", **{"X-Purpose-Of-Use": "HOPERAT"}
    )
    assert (status, body) == (200, one.contents[0].content)
    signed = app.member.ledger.submitted[-1][0].item.group.commands[0]
    assert command.parse(signed)[1].access.action == "history"
    assert command.parse(signed)[1].access.purpose == "HOPERAT"


async def test_a_refusal_is_an_operation_outcome_with_the_reason_and_without_ids(app: App) -> None:
    one = await ready_to_read(app)
    submit = app.member.ledger.submit

    async def refusing(submissions: Any, seals: Any = ()) -> Any:
        for submission in submissions:
            for signed in submission.item.group.commands:
                header, body = command.parse(signed)
                if body.HasField("access"):
                    app.member.ledger.refuse[header.command_id] = (
                        code_pb2.CODE_FORBIDDEN,
                        "no consent permits it",
                    )
        return await submit(submissions, seals)

    app.member.ledger.submit = refusing  # type: ignore[method-assign]

    status, body, _ = await reading(app, f"/fhir/Observation/{one.body.record_id}")

    assert status == 403
    said = issue(body)
    assert (said["code"], said["diagnostics"]) == ("forbidden", "no consent permits it")
    assert one.body.record_id.encode() not in body
    assert PATIENT.address.encode() not in body
    assert not app.member.storage.opened


async def test_without_a_delegation_nothing_is_read(app: App) -> None:
    one = await written(app)
    await app.login()

    status, body, _ = await app.get(f"/fhir/Observation/{one.body.record_id}")

    assert status == 403
    assert "delegation" in issue(body)["diagnostics"]
    assert not app.member.storage.opened


async def test_a_delegation_is_of_its_session_alone(app: App) -> None:
    one = await ready_to_read(app)
    await reading(app, f"/fhir/Observation/{one.body.record_id}")

    await app.login()

    assert (await app.get(f"/fhir/Observation/{one.body.record_id}"))[0] == 403


async def test_what_is_not_there_is_not_found(app: App) -> None:
    one = await ready_to_read(app)
    await reading(app, f"/fhir/Observation/{one.body.record_id}")

    for path in (
        f"/fhir/Observation/{uuid7()}",
        "/fhir/Observation/1",
        f"/fhir/Observation/{one.body.record_id}/_history/2",
        f"/fhir/Observation/{one.body.record_id}/_history/0",
        f"/fhir/Patient/{one.body.record_id}",
        f"/fhir/Bot/{one.body.record_id}",
        "/fhir/Observation/a/b/c",
    ):
        status, body, _ = await app.get(path)
        assert (status, issue(body)["code"]) == (404, "not-found"), path


async def test_content_that_was_changed_on_the_way_is_not_served(app: App) -> None:
    one = await ready_to_read(app)
    await reading(app, f"/fhir/Observation/{one.body.record_id}")
    app.member.storage.tamper = True

    status, body, _ = await app.get(f"/fhir/Observation/{one.body.record_id}")

    assert (status, issue(body)["details"]["text"]) == (502, "INTEGRITY")
    app.member.storage.tamper = False
    app.member.ledger.records_kept[one.body.record_id, 1].content_commitment = bytes(32)
    status, body, _ = await app.get(f"/fhir/Observation/{one.body.record_id}")
    assert (status, issue(body)["details"]["text"]) == (502, "INTEGRITY")


async def test_what_another_member_let_through_about_somebody_else_is_not_served(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready_to_read(app)
    monkeypatch.setattr(content_rules, "check", lambda *_: None)
    for wrong in ({"subject": {"reference": f"Patient/{CLINICIAN.address}"}}, {"id": uuid7()}):
        one = await written(app, resource={**an_observation(), **wrong})

        status, body, _ = await reading(app, f"/fhir/Observation/{one.body.record_id}")

        assert (status, issue(body)["details"]["text"]) == (502, "INTEGRITY")
        assert CLINICIAN.address.encode() not in body


async def test_a_read_is_never_made_by_head_and_purposes_are_of_the_list(app: App) -> None:
    await app.login(CLINICIAN.delegate(app.member.device.address))
    url = f"{app.base}/fhir/Observation/{uuid7()}"
    async with app.http.head(url) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, PUT")

    status, body, _ = await app.get(f"/fhir/Observation/{uuid7()}", **{"X-Purpose-Of-Use": "FUN"})
    assert (status, issue(body)["code"]) == (400, "invalid")


async def test_no_line_of_the_log_holds_an_id_or_a_path(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    one = await ready_to_read(app)
    await reading(app, f"/fhir/Observation/{one.body.record_id}?patient={PATIENT.address}")
    await app.get(f"/fhir/Observation/{uuid7()}")

    said = capsys.readouterr()

    for secret in (one.body.record_id, PATIENT.address, CLINICIAN.address, "/fhir/", app.token):
        assert secret not in said.out + said.err
