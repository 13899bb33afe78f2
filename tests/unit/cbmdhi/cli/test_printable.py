"""What comes from outside is words to a terminal: it moves no cursor, hides no line and turns no text."""

from __future__ import annotations

import json
import re

import pytest

from cbmdhi.cli import resend, shared, written_rows
from cbmdhi.cli.boundary import failure_of, tell
from cbmdhi.cli.verify import show_checks
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.verify import Check, Verification

# A line of this program's own is taken away and forged; colours, a title; right to left; a line of its own.
MOVES = (
    "no\x1b[2K\x1b[1A\r\x1b[32mdone in block 7\x1b[0m \x9b31m \x1b]0;title\x07\x00\x7f\x85"
    "\u202eabc\u2066\u200f\u061c\u2028x\ty"
)
FORGED = MOVES + "\nsecond line"
_MOVING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def check(printed: str, lines: int) -> None:
    assert not _MOVING.search(printed)
    assert "done in block 7" in printed
    assert len(printed.splitlines()) == lines


def test_a_reason_is_one_line_of_words(capsys: pytest.CaptureFixture[str]) -> None:
    tell(failure_of(MeshError(code_pb2.CODE_EXPIRED, FORGED, FORGED)), as_json=False)
    check(capsys.readouterr().err, 1)


def test_machines_are_told_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    tell(failure_of(MeshError(code_pb2.CODE_EXPIRED, FORGED)), as_json=True)
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["error"]["reason"] == FORGED


@pytest.mark.parametrize("width", [500, 20])
def test_a_table_has_a_row_for_each_entry_and_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    table = shared.table("record", "by")
    table.add_row(FORGED, "mercy")
    monkeypatch.setattr(shared.console, "_width", width)
    shared.show(table)
    printed = capsys.readouterr().out
    assert not _MOVING.search(printed)
    assert not any(line.startswith("second line") for line in printed.splitlines())


def test_whatever_is_printed_moves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    shared.console.print(MOVES, soft_wrap=True, markup=False)
    shared.say(MOVES)
    printed = capsys.readouterr()
    check(printed.out, 1)
    check(printed.err, 1)


def test_reasons_of_records_sent_again_and_of_checks_are_one_line_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = written_rows.lines_of({**_ROW, "reason": FORGED, "tx_id": FORGED, "replicas": [FORGED]})
    check("\n".join(lines), len(lines))
    assert "\n" not in resend._line(resend._Sent("id", "refused", "EXPIRED", FORGED))
    show_checks(Verification("tx", "command", [Check("name", False, FORGED)]))
    check(capsys.readouterr().out, 1)


_ROW = {
    "verdict": "EXPIRED",
    "record_id": "",
    "block": None,
    "path": "",
    "command_id": "",
    "cid": "b",
    "verify": "",
}
