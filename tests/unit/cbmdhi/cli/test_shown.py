"""What is shown is whole, and says until when, and what was done."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from cbmdhi.cli import consent, shared
from cbmdhi.cli.hints import Typist
from cbmdhi.cli.written_rows import lines_of, row_of, summary
from cbmdhi.client.consents import provision
from cbmdhi.client.records import NewRecord, Written
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ActiveConsent, ConsentDocument
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
RECORD = "01a22d4c-e6d0-7195-af6f-7062e602180b"
OTHER = "01a22d4c-e6d0-7195-af6f-7062e602180c"
COMMAND = "01a22d4d-0000-7195-af6f-7062e602180d"
DAY_MS = 86_400_000


@pytest.mark.parametrize("days", ["0", "-1", "36501", "99999999"])
def test_a_consent_is_not_given_for_days_that_make_no_sense(days: str, typed: Typed) -> None:
    told = typed("consent", "grant", SOMEBODY, "--days", days)
    assert (told.exit_code, "1 to 36500 days" in told.output) == (2, True), told.output


def _document() -> tuple[int, ConsentDocument]:
    now_ms = int(time.time() * 1000)
    ends = (0, now_ms + DAY_MS, now_ms - DAY_MS, 2**62)
    lines = [provision(grantee=SOMEBODY, valid_until_ms=at_ms) for at_ms in ends]
    over = [provision(grantee=SOMEBODY, valid_until_ms=now_ms - DAY_MS)]
    given = [
        ActiveConsent(consent_id=RECORD, provisions=lines),
        ActiveConsent(consent_id=OTHER, provisions=over),
    ]
    return now_ms, ConsentDocument(consents=given)


def test_consents_are_listed_with_until_when_for_what_and_for_whom_they_hold(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms, document = _document()
    monkeypatch.setattr(shared, "with_client", lambda *_: document)
    rows = [row for row in typed("consent", "list", "--ended").output.splitlines() if RECORD in row]
    untils = [row.split("read, search, history")[1].split()[0] for row in rows]
    assert untils[0::2] == ["revoked", "ended"]
    assert consent.when(now_ms + DAY_MS) in rows[1]
    assert str(2**62) in rows[3]
    assert all(word in rows[0] for word in (SOMEBODY, "TREAT", "everything")), rows


def test_consents_that_have_ended_are_hidden_unless_asked_for(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "with_client", lambda *_: _document()[1])
    told = typed("consent", "list").output
    assert ("ended 2" in told, OTHER in told, RECORD in told) == (False, False, True)
    assert "2 more have ended: " in told
    assert "consent list --ended -w anna" in told
    listed = json.loads(typed("consent", "list", "--json").stdout)["consents"]
    assert [(one["consent_id"], len(one["provisions"])) for one in listed] == [(RECORD, 3)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_table_cuts_an_id_off_or_in_two(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = shared.table("", "record", "who", "reason")
    for _ in range(2):
        table.add_row("●", RECORD, SOMEBODY, "a sentence that is too long for [bold]what is left")
    monkeypatch.setattr(shared, "console", Console(width=width, highlight=False))
    with shared.console.capture() as captured:
        shared.show(table)
    shown = captured.get()
    assert [shown.count(one) for one in (RECORD, SOMEBODY, "●")] == [2, 2, 2]
    assert (shown.count("record"), max(map(len, shown.splitlines())) <= width) == (
        1 if width == 200 else 2,
        True,
    )


def _written(outcome: int, *, tx_id: str = "", code: int = code_pb2.CODE_OK, reason: str = "") -> Written:
    receipt = Receipt(code=code, outcome=outcome, tx_id=tx_id, command_id=COMMAND, block=7 if tx_id else 0)
    receipt.reason, receipt.path = reason, "body" if reason else ""
    return Written(NewRecord(SOMEBODY, b"{}", RECORD), RecordReceipt(receipt=receipt))


def test_a_record_that_is_written_shows_its_ids_whole_and_what_proves_it(tmp_path: Path) -> None:
    row = row_of(_written(code_pb2.OUTCOME_COMMITTED, tx_id="ab" * 32), "", Typist(tmp_path, "mercy-engine"))
    lines = lines_of(row)
    assert lines[:3] == [
        f"OK  record {RECORD}, block 7",
        f"  transaction {'ab' * 32}",
        f"  command {COMMAND}",
    ]
    assert f"verify {'ab' * 32} {COMMAND} -w mercy-engine --home {tmp_path}" in lines[3]
    assert row["verify"] in lines[3]


def test_a_refused_record_shows_its_reason_whole_and_no_block_that_it_is_not_in(tmp_path: Path) -> None:
    why = "the author's member does not treat this patient and no consent of the patient permits write"
    refused = _written(code_pb2.OUTCOME_NOT_DONE, code=code_pb2.CODE_FORBIDDEN, reason=why)
    row = row_of(refused, "", Typist(tmp_path, "mercy-engine"))
    assert (row["block"], row["verify"]) == (None, "")
    assert lines_of(row) == [f"FORBIDDEN  record {RECORD}", f"  {why} (at body)", f"  command {COMMAND}"]


def test_it_is_said_how_many_are_committed_and_proof_is_spoken_of_only_then(tmp_path: Path) -> None:
    typist = Typist(tmp_path, "mercy-engine")
    refused, unknown, done = (
        row_of(one, "", typist)
        for one in (
            _written(code_pb2.OUTCOME_NOT_DONE, code=code_pb2.CODE_FORBIDDEN),
            _written(code_pb2.OUTCOME_UNKNOWN, code=code_pb2.CODE_UNKNOWN_OUTCOME),
            _written(code_pb2.OUTCOME_COMMITTED, tx_id="ab" * 32),
        )
    )
    assert summary([refused]) == "nothing was committed"
    assert summary([refused, unknown]) == "nothing is known to be committed"
    on_record = done | {"verdict": "FORBIDDEN"}
    assert summary([on_record]).startswith("no record was committed; that it was refused is on the channel")
    assert summary([on_record, refused, done]).startswith("1 of 3 records committed")
    assert summary([refused, done]).startswith("1 of 2 records committed")
    assert summary([done]).startswith("1 of 1 record committed")
