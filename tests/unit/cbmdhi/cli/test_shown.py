"""What is shown is whole, and says until when, and what was done."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rich.console import Console

from cbmdhi.cli import consent, shared
from cbmdhi.cli.hints import Typist
from cbmdhi.cli.records import _lines, _proof_of
from cbmdhi.client.consents import provision
from cbmdhi.command.v1.state_pb2 import ActiveConsent, ConsentDocument
from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
RECORD = "01a22d4c-e6d0-7195-af6f-7062e602180b"
DAY_MS = 86_400_000


@pytest.mark.parametrize("days", ["0", "-1", "36501", "99999999"])
def test_a_consent_is_not_given_for_days_that_make_no_sense(days: str, typed: Typed) -> None:
    told = typed("consent", "grant", SOMEBODY, "--days", days)
    assert (told.exit_code, "1 to 36500 days" in told.output) == (2, True), told.output


def test_consents_are_listed_with_until_when_they_hold(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = int(time.time() * 1000)
    ends = (0, now_ms + DAY_MS, now_ms - DAY_MS, 2**62)
    lines = [provision(grantee=SOMEBODY, valid_until_ms=at_ms) for at_ms in ends]
    document = ConsentDocument(consents=[ActiveConsent(consent_id=RECORD, provisions=lines)])
    monkeypatch.setattr(shared, "with_client", lambda *_: document)
    rows = [row for row in typed("consent", "list").output.splitlines() if RECORD in row]
    assert [row.split("everything")[1].split()[0] for row in rows][0::2] == ["revoked", "ended"]
    assert consent.when(now_ms + DAY_MS) in rows[1]
    assert str(2**62) in rows[3]


def test_no_table_cuts_off_an_id_on_a_narrow_terminal() -> None:
    table = shared.table("record", "who", "reason")
    table.add_row(RECORD, SOMEBODY, "a sentence that is too long for what is left")
    narrow = Console(width=80)
    with narrow.capture() as shown:
        narrow.print(table)
    assert "…" not in shown.get()


def _result(**given: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("reason", "path", "tx_id", "cid", "command_id"), "")
    return {
        "record_id": RECORD,
        "verdict": "OK",
        "block": 0,
        "replicas": [],
        "outcome": "NOT_DONE",
        **empty,
        **given,
    }


def test_a_refused_record_shows_its_reason_whole() -> None:
    why = "the author's member does not treat this patient and no consent of the patient permits write"
    assert _lines(_result(verdict="FORBIDDEN", reason=why, path="body")) == [
        f"FORBIDDEN  record {RECORD}",
        f"  {why} (at body)",
    ]


def test_a_proof_is_spoken_of_only_where_something_was_committed(tmp_path: Any) -> None:
    typist = Typist(tmp_path, "mercy-engine")
    refused, unknown = _result(verdict="FORBIDDEN"), _result(verdict="UNKNOWN_OUTCOME", outcome="UNKNOWN")
    done = _result(outcome="COMMITTED", tx_id="ab", command_id="cd")
    assert _proof_of([refused], typist) == "nothing was committed"
    assert _proof_of([refused, unknown], typist) == "nothing is known to be committed"
    assert "verify ab cd -w mercy-engine --home" in _proof_of([refused, done], typist)
