"""What goes wrong ends in a sentence, a code and a status, for machines as JSON; and never in a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from cbmdhi.cli import shared
from cbmdhi.cli.exits import MEANING, Status
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, from_rpc
from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
PROGRAM = (sys.executable, "-m", "cbmdhi.cli.main")


def _raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def raised(*_: object) -> Any:
        raise error

    monkeypatch.setattr(shared, "with_client", raised)


@pytest.mark.parametrize(
    "words",
    [
        ("put",),
        ("put", "FILE"),
        ("get", "01a22d4c", "-p", SOMEBODY, "--nonsense"),
        ("consent", "grant"),
        ("consent", "grant", SOMEBODY, "--days", "soon"),
        ("inbox", "--page", "0"),
        ("wallet",),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_what_is_mistyped_is_told_in_json_where_json_was_asked_for(
    words: tuple[str, ...], typed: Typed
) -> None:
    told = typed(*words, "--json", wallet="")
    error = json.loads(told.stdout)["error"]
    assert (told.exit_code, error["code"], error["exit"]) == (Status.MISTYPED, "USAGE", 2), told.output
    assert error["reason"]
    assert "--help" in " ".join(error["next"])


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["words", "json"])
def test_output_that_a_full_disk_does_not_take_is_told_in_a_sentence(
    more: tuple[str, ...], home: Path
) -> None:
    words = ("wallet", "show", "-w", "anna", "--offline", "--home", str(home))
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [*PROGRAM, *words, *more], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert told.returncode == Status.FAILED, told.stderr
    if not more:
        assert "FILE the output cannot be written: No space left" in told.stderr
    assert "Traceback" not in told.stderr


def test_whoever_closed_the_output_and_whose_terminal_lacks_signs_get_what_they_asked_for(home: Path) -> None:
    command = 'import sys; from cbmdhi.cli import run; sys.argv[0] = "cbmdhi"; run()'
    words = ("-c", command, "wallet", "show", "-w", "anna", "--offline", "--home", str(home))
    closed = subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", sys.executable, *words], check=False)
    assert closed.returncode == Status.DONE
    few_signs = {**os.environ, "PYTHONIOENCODING": "ascii"}
    signs = (*words[:2], "get", "…", "-p", "…", "--home", str(home))
    told = subprocess.run(
        [sys.executable, *signs], env=few_signs, capture_output=True, text=True, check=False
    )
    assert (told.returncode, "\\u2026" in told.stderr) == (Status.MISTYPED, True), told.stderr


def test_an_output_file_that_cannot_be_made_is_refused_before_anything_is_asked_for(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(AssertionError("the mesh was asked"), monkeypatch)
    told = typed("get", "01a22d4c", "-p", SOMEBODY, "-o", "/proc/nowhere")
    assert (told.exit_code, "/proc/nowhere cannot be written" in told.output) == (Status.MISTYPED, True)


def test_what_is_mistyped_is_told_in_a_sentence_with_what_shows_how(typed: Typed) -> None:
    told = typed("consent", "grant", wallet="")
    assert told.exit_code == Status.MISTYPED
    assert told.stdout == ""
    assert told.stderr.startswith("USAGE Missing argument")
    assert "consent grant --help` shows" in told.stderr


def test_a_fault_of_ours_is_a_sentence_with_its_place(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(TypeError("no such thing"), monkeypatch)
    told = typed("audit")
    assert told.exit_code == Status.FAULT
    assert told.stderr.startswith(
        "INTERNAL a fault of this program: TypeError: no such thing, at test_boundary.py:"
    )
    assert "Traceback" not in told.output
    assert json.loads(typed("audit", "--json").stdout)["error"]["code"] == "INTERNAL"


def test_a_fault_of_ours_is_shown_whole_to_who_asks(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(TypeError("no such thing"), monkeypatch)
    monkeypatch.setenv("CBMDHI_TRACEBACK", "1")
    assert "Traceback" in typed("audit").stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MeshError(code_pb2.CODE_FORBIDDEN, "no"), Status.FAILED),
        (MeshError(code_pb2.CODE_UNAVAILABLE, "no"), Status.NOT_NOW),
        (KeyboardInterrupt(), Status.INTERRUPTED),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("as_json", [True, False])
def test_each_kind_of_end_has_its_status(
    error: BaseException, status: Status, as_json: bool, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(error, monkeypatch)
    told = typed("audit", *(["--json"] if as_json else []))
    assert told.exit_code == status
    if as_json:
        assert json.loads(told.stdout)["error"]["exit"] == status


def test_every_status_is_explained() -> None:
    assert set(MEANING) == set(Status)


def test_a_wallet_that_is_not_there_is_told_with_those_that_are_and_what_makes_one(
    typed: Typed, home: Path
) -> None:
    told = typed("list", wallet="eve")
    assert told.exit_code == Status.MISTYPED
    for part in ("there are: anna", "wallet create eve -m MEMBER", f"--home {home}"):
        assert part in told.output, told.output


def test_a_folder_that_cannot_be_written_is_told_with_who_may(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As whoever is not root sees it."""
    _raising(PermissionError(13, "Permission denied", "/var/wallets"), monkeypatch)
    told = typed("audit")
    assert (told.exit_code, told.output.splitlines()[0]) == (2, "FILE /var/wallets: Permission denied")
    assert "shows who may" in told.output


def test_a_wallet_is_not_made_where_a_file_is(typed: Typed, home: Path) -> None:
    (home / "file").write_text("")
    told = typed("wallet", "create", str(home / "file" / "eve"), "-m", "mercy", "--plain", wallet="")
    assert (told.exit_code, "cannot be written" in told.output) == (Status.MISTYPED, True), told.output


def test_a_file_that_is_not_there_is_told_in_a_sentence(typed: Typed, home: Path) -> None:
    told = typed("put", str(home / "nothing.json"), "-p", SOMEBODY)
    assert (told.exit_code, "Traceback" in told.output) == (Status.MISTYPED, False)
    assert "nothing.json" in told.output


def test_who_reads_no_more_is_no_failure_to_tell_of() -> None:
    reading = subprocess.Popen(
        [*PROGRAM, "docs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert reading.stdout is not None
    assert reading.stderr is not None
    reading.stdout.close()
    assert reading.stderr.read() == b""
    assert reading.wait(60) == Status.PIPE_CLOSED


def test_without_a_terminal_nothing_is_coloured(home: Path) -> None:
    told = subprocess.run(
        [*PROGRAM, "list", "-w", "eve", "--home", str(home)], capture_output=True, text=True, check=False
    )
    assert told.returncode == Status.MISTYPED
    assert "\x1b" not in told.stdout + told.stderr


@pytest.mark.parametrize("option", ["--plot", "--output", "--csv", "--records-csv"])
def test_where_a_load_cannot_be_drawn_or_kept_it_does_not_begin(
    option: str, typed: Typed, home: Path
) -> None:
    (home / "file").write_text("")
    told = typed("hammer", option, str(home / "file" / "below"), wallet="")
    assert (told.exit_code, "Traceback" in told.output) == (Status.MISTYPED, False), told.output
    assert str(home / "file") in told.output


def test_what_is_too_large_for_grpc_itself_is_told_with_the_limit() -> None:
    details = "Received message larger than max (35651584 vs. 33554432)"
    refused = AioRpcError(StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata(), details=details)
    ours = from_rpc(refused)
    assert (ours.code_name, "at most 16 MiB" in ours.reason, details in ours.reason) == (
        "TOO_LARGE",
        True,
        True,
    )


def test_who_is_told_to_calm_down_has_sent_nothing_too_large() -> None:
    refused = AioRpcError(StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata(), details="rate limited")
    ours = from_rpc(refused)
    assert (ours.code_name, ours.nothing_done) == ("RESOURCE_EXHAUSTED", False)
