"""What is in a file is signed to the byte, and is in a file again; what cannot be is a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.cli import shared
from cbmdhi.client.reading import Reading
from cbmdhi.client.records import NewRecord
from cbmdhi.command.v1.command_pb2 import SignedCommand
from cbmdhi.command.v1.state_pb2 import RecordVersion
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol.evidence import ProvenVersion
from tests.unit.cbmdhi.cli.conftest import Typed

PATIENT = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
RECORD = "01a22d4c-e6d0-7195-af6f-7062e602180b"
TEXT = '{"resourceType":"Observation","status":"final","code":{"text":"Müller"}}'
EXACT = (
    b'{\r\n\t"valueQuantity" : {"value": 1.10, "code":"\\u00b5g\\/L"} ,"resourceType":"Observation",\r\n'
    b' "component":[{"valueQuantity":{"value":1e2}},{"valueInteger":12345678901234567890}] }\r\n'
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TEXT.encode("latin-1"), "is not UTF-8 at byte 64"),
        (TEXT.encode("utf-16"), "byte order mark of UTF-16"),
        (b"\xef\xbb\xbf" + TEXT.encode(), "byte order mark of UTF-8"),
        (TEXT.replace("Müller", "\\ud83d").encode(), "half a character"),
        (TEXT.replace('"final"', '"final","status":"amended"').encode(), "the property `status` twice"),
        (TEXT.encode() + b"\n" + TEXT.encode(), "more after its end, at line 2"),
        (TEXT.replace('"final"', "NaN").encode(), "NaN"),
        (b"", "is empty"),
        (b"\x00" * 10, "NUL"),
    ],
)
def test_a_file_that_two_programs_read_differently_is_not_signed(
    content: bytes, said: str, typed: Typed, tmp_path: Path
) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(content)
    told = typed("put", str(file), "-p", PATIENT)
    assert (told.exit_code, said in told.output) == (2, True), told.output
    assert told.output.startswith(f"INVALID {file} "), told.output
    assert told.exception is None or isinstance(told.exception, SystemExit)


@pytest.mark.parametrize("name", ["none.json", "folder"])
@pytest.mark.parametrize(
    "words",
    [
        ("put", "FILE", "-p", PATIENT),
        ("wallet", "register", "--evidence", "FILE"),
        ("resend", "FILE"),
        ("get", RECORD, "-p", PATIENT, "-o", "FILE/out.json"),
    ],
    ids=" ".join,
)
def test_a_folder_or_nothing_in_the_place_of_a_file_is_a_sentence_with_one_code_whatever_the_command(
    words: tuple[str, ...], name: str, typed: Typed, tmp_path: Path
) -> None:
    (tmp_path / "folder" / "out.json").mkdir(parents=True)
    file = str(tmp_path / name)
    told = typed(*(word.replace("FILE", file) for word in words))
    assert (told.exit_code, told.output.startswith(f"FILE {file}")) == (2, True), told.output
    assert "No such file" in told.output or "Is a directory" in told.output


@pytest.mark.parametrize("option", ["--consortium", "--passphrase-file"])
@pytest.mark.parametrize("name", ["none.json", "folder"])
def test_a_wallet_is_made_of_no_file_that_cannot_be_read(
    option: str, name: str, typed: Typed, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    words = ("wallet", "create", "ben", "-m", "mercy", option, str(tmp_path / name))
    told = typed(*words, *(["--plain"] if option == "--consortium" else []), wallet="")
    assert (told.exit_code, told.output.startswith("FILE ")) == (2, True), told.output
    assert not (tmp_path / "wallets" / "ben").exists()


def test_what_is_signed_is_what_was_in_the_file() -> None:
    assert NewRecord.of(PATIENT, EXACT).content == EXACT
    assert NewRecord.of(PATIENT, EXACT.decode()).content == EXACT
    assert NewRecord.of(PATIENT, EXACT, RECORD, 3).content == EXACT


def reading(content: bytes) -> Reading:
    proven = ProvenVersion(RecordVersion(author=PATIENT), ("MercyMSP",), SignedCommand())
    return Reading(Receipt(), proven, content, "MercyMSP")


def test_what_is_read_is_in_the_file_to_the_byte(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "with_client", lambda *_: reading(EXACT))
    file = tmp_path / "out.json"
    told = typed("get", RECORD, "-p", PATIENT, "-o", str(file))
    assert (told.exit_code, file.read_bytes()) == (0, EXACT)
    assert typed("get", RECORD, "-p", PATIENT).stdout_bytes.endswith(EXACT)


def test_machines_get_the_resource_with_its_digits(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "with_client", lambda *_: reading(EXACT))
    told = typed("get", RECORD, "-p", PATIENT, "--json").stdout
    found: dict[str, Any] = json.loads(told, parse_float=str)
    assert found["resource"]["valueQuantity"]["value"] == "1.10"
    assert set(found) == {"receipt", "resource"}


def test_nothing_is_read_for_a_file_that_cannot_be_written(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "with_client", lambda *_: pytest.fail("it was asked for"))
    for output in (tmp_path, tmp_path / "nowhere" / "out.json"):
        told = typed("get", RECORD, "-p", PATIENT, "-o", str(output))
        assert (told.exit_code, "cannot be written" in told.output) == (2, True)
