"""FHIR writes over HTTPS, inside a delegation."""

import asyncio
from typing import Any

import orjson
import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import command
from cbmdhi.protocol.ids import is_uuid7, uuid7
from services.runtime.errors import MeshError
from tests.contract.gateway_app import CLINICIAN, PATIENT, App, about_the_patient, issue, ready_to_write
from tests.support.waiting import until

pytest_plugins = ("tests.contract.gateway_fixtures",)


def placed(headers: Any) -> tuple[str, str]:
    """Record id and version of the Location."""
    *_, kind, record_id, history, version = headers["Location"].split("/")
    assert (kind, history) == ("Observation", "_history")
    return record_id, version


async def test_a_plain_fhir_client_creates_a_record_and_the_channel_says_who_for_whom(app: App) -> None:
    await ready_to_write(app)
    resource = about_the_patient(meta={"versionId": "9", "tag": [{"code": "x"}]}, id="its-own")
    raw = orjson.dumps({**resource, "valueQuantity": {"value": 7.25}}).replace(b"7.25", b"7.250")

    status, body, headers = await app.send("POST", "/fhir/Observation", raw)

    record_id, version = placed(headers)
    assert (status, body, version, headers["ETag"]) == (201, b"", "1", 'W/"1"')
    assert is_uuid7(record_id)
    submission = app.member.ledger.submitted[-1][0]
    signed = submission.item.group.commands[0]
    header, said = command.parse(signed)
    assert (signed.signer, said.put_record.patient) == (app.member.device.address, PATIENT.address)
    assert (said.put_record.record_id, said.put_record.category) == (record_id, "observations")
    assert signed.delegation.delegation
    assert (headers["Cbmdhi-Command"], bool(headers["Cbmdhi-Transaction"])) == (header.command_id, True)
    status, content, _ = await app.get(f"/fhir/Observation/{record_id}")
    resource = orjson.loads(content)
    assert (status, resource["id"], resource["meta"]) == (200, record_id, {"tag": [{"code": "x"}]})
    assert b'"value":7.250' in content, "a measured value keeps its digits"


async def test_whoever_asks_for_the_representation_gets_what_was_committed(app: App) -> None:
    await ready_to_write(app)

    _, body, headers = await app.send(
        "POST", "/fhir/Observation", about_the_patient(), Prefer="return=representation"
    )

    record_id, _ = placed(headers)
    assert body == (await app.get(f"/fhir/Observation/{record_id}"))[1]


async def test_an_update_is_the_next_version_of_the_record(app: App) -> None:
    await ready_to_write(app)
    _, _, headers = await app.send("POST", "/fhir/Observation", about_the_patient())
    record_id, _ = placed(headers)
    path, resource = f"/fhir/Observation/{record_id}", about_the_patient(id=record_id, status="amended")

    status, _, headers = await app.send("PUT", path, resource)

    assert (status, placed(headers), headers["ETag"]) == (200, (record_id, "2"), 'W/"2"')
    assert orjson.loads((await app.get(path))[1])["status"] == "amended"
    status, body, _ = await app.send("PUT", path, about_the_patient(id=uuid7()))
    assert (status, "Observation.id" in issue(body)["diagnostics"]) == (400, True)


async def test_what_is_sent_again_under_its_own_id_has_no_second_effect(app: App) -> None:
    await ready_to_write(app)
    record_id = uuid7()
    path, resource = f"/fhir/Observation/{record_id}", about_the_patient(id=record_id)

    first = [(await app.send("PUT", path, resource, **{"If-None-Match": "*"}))[0] for _ in range(2)]
    second = [(await app.send("PUT", path, resource, **{"If-Match": 'W/"1"'}))[0] for _ in range(2)]

    assert (first, second) == ([201, 412], [200, 412])
    again = await app.send("PUT", path, resource, **{"If-None-Match": "*"})
    assert again[2]["Cbmdhi-Outcome"] in ("COMMITTED", "NOT_DONE")
    assert [version for one, version in app.member.ledger.records_kept if one == record_id] == [1, 2]


async def test_what_cannot_be_taken_is_said_with_its_place_and_nothing_is_stored(app: App) -> None:
    await ready_to_write(app)
    observation, record = "/fhir/Observation", f"/fhir/Observation/{uuid7()}"
    nobody = about_the_patient(subject={"reference": "Patient/1"})
    without = about_the_patient()
    del without["subject"]
    wrong: list[tuple[str, str, Any, dict[str, str], int, str]] = [
        ("POST", observation, b"{", {}, 400, "not JSON"),
        ("POST", observation, b'{"resourceType":"Observation"}', {}, 400, "Observation."),
        ("POST", observation, nobody, {}, 400, "Observation.subject.reference"),
        ("POST", observation, without, {}, 400, "Observation.subject"),
        ("POST", "/fhir/Condition", about_the_patient(), {}, 400, "URL"),
        ("POST", "/fhir/Practitioner", {"resourceType": "Practitioner"}, {}, 404, "names a patient"),
        (
            "POST",
            observation,
            about_the_patient(),
            {"Content-Type": "text/plain"},
            415,
            "application/fhir+json",
        ),
        ("POST", observation, about_the_patient(), {"If-None-Exist": "a=b"}, 400, "If-None-Match"),
        ("PUT", "/fhir/Observation/1", about_the_patient(id="1"), {}, 400, "UUIDv7"),
        ("PUT", record, about_the_patient(), {"If-Match": "1"}, 400, "If-Match"),
        ("POST", observation, b" " * (16 * 1024 * 1024 + 1), {}, 413, "16777216 bytes"),
    ]

    for method, path, resource, headers, expected, said in wrong:
        status, body, _ = await app.send(method, path, resource, **headers)
        assert (status, said in issue(body)["diagnostics"]) == (expected, True), (path, issue(body))

    assert app.member.storage.sealed_items == 0
    assert (await app.send("POST", observation, about_the_patient()))[0] == 201


async def test_without_a_delegation_or_a_token_nothing_is_written(app: App) -> None:
    await app.login()
    status, body, _ = await app.send("POST", "/fhir/Observation", about_the_patient())
    assert (status, "delegation" in issue(body)["diagnostics"]) == (403, True)

    app.token = "another"
    assert (await app.send("POST", "/fhir/Observation", about_the_patient()))[0] == 401
    assert not app.member.storage.sealed_items


async def test_what_the_channel_refuses_is_answered_with_its_reason(app: App) -> None:
    await ready_to_write(app)
    submit = app.member.ledger.submit

    async def refusing(submissions: Any, seals: Any = ()) -> Any:
        for signed in submissions[0].item.group.commands:
            header = command.parse(signed)[0]
            app.member.ledger.refuse[header.command_id] = (code_pb2.CODE_FORBIDDEN, "not a treating member")
        return await submit(submissions, seals)

    app.member.ledger.submit = refusing  # type: ignore[method-assign]

    status, body, headers = await app.send("POST", "/fhir/Observation", about_the_patient())

    assert (status, issue(body)["diagnostics"]) == (403, "not a treating member")
    assert headers["Cbmdhi-Outcome"] == "COMMITTED"
    assert "Location" not in headers


async def test_what_was_not_even_begun_says_so(app: App) -> None:
    await ready_to_write(app)
    path, resource = f"/fhir/Observation/{uuid7()}", about_the_patient()

    answers = [
        await app.send("PUT", "/fhir/Observation/1", resource),
        await app.send("PUT", path, resource, **{"If-Match": "3"}),
        await app.send("PUT", path, resource, **{"Content-Type": "text/plain"}),
        await app.send("POST", "/fhir/Gossip", resource),
        await app.send("POST", path, resource),
        await app.send("POST", "/fhir/Observation", resource, **{"If-None-Exist": "identifier=1"}),
        await app.send("POST", "/fhir/Observation", resource, DPoP="none"),
    ]

    assert [status for status, _, _ in answers] == [400, 400, 415, 404, 405, 400, 401]
    assert {headers.get("Cbmdhi-Outcome") for _, _, headers in answers} == {"NOT_DONE"}


async def test_an_answer_that_was_lost_is_not_called_a_failure(app: App) -> None:
    await ready_to_write(app)
    app.member.ledger.lost = MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "it may have been committed")

    status, body, headers = await app.send("POST", "/fhir/Observation", about_the_patient())

    assert (status, issue(body)["details"]["text"]) == (502, "UNKNOWN_OUTCOME")
    assert headers["Cbmdhi-Outcome"] == "UNKNOWN"


async def test_a_sender_who_breaks_off_leaves_no_body_behind(app: App) -> None:
    await ready_to_write(app)
    url = f"{app.base}/fhir/Observation"
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def half() -> Any:
        yield b"{" + b" " * 100_000
        begun.set()
        await go_on.wait()

    headers = {
        "Authorization": f"DPoP {app.token}",
        "DPoP": app.key.proof("POST", url, app.token),
        "Content-Type": "application/fhir+json",
    }
    sending = asyncio.create_task(_post(app, url, half(), headers))
    await begun.wait()
    sending.cancel()
    await asyncio.wait([sending])

    def counted() -> bool:
        labels = {"route": "create", "code": "INVALID"}
        return (
            app.member.life.metrics.registry.get_sample_value("cbmdhi_gateway_rest_requests_total", labels)
            == 1
        )

    await until(counted, "the half request is over", 10)
    assert (await app.send("POST", "/fhir/Observation", about_the_patient()))[0] == 201


async def _post(app: App, url: str, data: Any, headers: dict[str, str]) -> None:
    async with app.http.post(url, data=data, headers=headers) as answer:
        await answer.read()


async def test_no_line_of_the_log_holds_what_was_written_or_by_whom(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    await ready_to_write(app)
    secret = about_the_patient(note=[{"text": "told in confidence"}])
    _, _, headers = await app.send("POST", "/fhir/Observation", secret)
    await app.send("POST", "/fhir/Observation", {**secret, "status": "told in confidence"})

    said = capsys.readouterr()

    for word in (placed(headers)[0], PATIENT.address, CLINICIAN.address, "confidence", "/fhir/", app.token):
        assert word not in said.out + said.err
