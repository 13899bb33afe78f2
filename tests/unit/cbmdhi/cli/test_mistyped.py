"""What is typed wrong is told in a sentence, with status 2, and nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"

_AT_A_MEMBER = [
    ("list",),
    ("get", "01a22d4c-e6d0-7195-af6f-7062e602180b", "-p", SOMEBODY),
    ("audit",),
    ("inbox",),
    ("inbox", "--follow"),
    ("consent", "list"),
    ("consent", "grant", SOMEBODY),
    ("wallet", "show"),
    ("wallet", "enrol"),
    ("review", "list"),
    ("review", "suspend", SOMEBODY, "left"),
    ("emergency", "list"),
    ("invite", SOMEBODY, "--role", "clinician"),
]


@pytest.mark.parametrize("words", _AT_A_MEMBER, ids=" ".join)
def test_a_member_that_there_is_none_is_told_with_those_that_there_are(
    words: tuple[str, ...], typed: Typed
) -> None:
    told = typed(*words, "-m", "nowhere")
    assert (told.exit_code, told.output) == (2, "INVALID no member 'nowhere'; there are: lakeside, mercy\n")


def test_a_wallet_is_not_made_at_a_member_that_there_is_none(typed: Typed, home: Path) -> None:
    told = typed("wallet", "create", "eve", "-m", "nowhere", "--plain", wallet="")
    assert (told.exit_code, told.output) == (2, "INVALID no member 'nowhere'; there are: lakeside, mercy\n")
    assert not (home / "wallets" / "eve").exists()


@pytest.mark.parametrize(
    "content",
    [
        b'{"resourceType": "Observation", "x": "\xff\xfe"}',
        b"\x89PNG\r\n",
        b"",
        b"[" * 100_000,
        b"[]",
        b'{"resourceType": "Observation", "x": "\\ud800"}',
    ],
    ids=["latin", "picture", "empty", "deep", "list", "surrogate"],
)
def test_a_file_that_is_no_resource_is_told_in_a_sentence(
    content: bytes, typed: Typed, tmp_path: Path
) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(content)
    told = typed("put", str(file), "-p", SOMEBODY)
    assert (told.exit_code, told.output.partition(" ")[0]) == (2, "INVALID"), told.output


def test_evidence_that_is_no_json_is_told_in_a_sentence(typed: Typed, tmp_path: Path) -> None:
    file = tmp_path / "evidence.json"
    file.write_bytes(b'{"name": "\xff"}')
    told = typed("wallet", "register", "--evidence", str(file))
    assert (told.exit_code, told.output.partition(" ")[0]) == (2, "INVALID"), told.output


def test_for_machines_it_is_told_as_json(typed: Typed) -> None:
    told = typed("list", "-m", "nowhere", "--json")
    document = json.loads(told.stdout)
    assert document["error"]["code"] == "INVALID"
