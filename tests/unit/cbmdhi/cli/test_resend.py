"""What waits to be sent again is shown, and all of it is sent by one short line."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.cli.exits import Status
from cbmdhi.client.outbox import Kept
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, NotCommitted, NotSent, UnknownOutcome
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from tests.unit.cbmdhi.cli.conftest import Typed
from tests.unit.cbmdhi.cli.test_unsure import SOMEBODY, At, Losing, at, given

# The package gives the command its module's name.
module = importlib.import_module("cbmdhi.cli.resend")

FORBIDDEN = Receipt(code=code_pb2.CODE_FORBIDDEN, reason="no", outcome=code_pb2.OUTCOME_COMMITTED)
LOST = MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "lost", outcome=code_pb2.OUTCOME_UNKNOWN)


def waiting(typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> tuple[Losing, Path]:
    """So many consents were granted, and nobody knows what became of them."""
    channel = Losing(losses=count, carries=False)
    outbox = at(channel, home, monkeypatch)
    for _ in range(count):
        typed("consent", "grant", SOMEBODY)
    assert len(list(outbox.iterdir())) == count
    return channel, outbox


def test_what_waits_is_listed_with_its_id_its_time_and_what_it_is_and_nothing_is_sent(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, outbox = waiting(typed, home, monkeypatch, 2)
    sent = len(channel.sent)
    told = typed("resend")
    assert told.exit_code == 0, told.output
    for file in outbox.iterdir():
        assert file.stem in told.stdout
    assert told.stdout.count("consent, consent_id") == 2
    assert "resend --all" in told.stderr
    listed = json.loads(typed("resend", "--json").stdout)
    assert sorted(one["command_id"] for one in listed) == sorted(file.stem for file in outbox.iterdir())
    assert all(one["signed_at"].endswith("Z") and one["signed"][0]["consent_id"] for one in listed)
    assert len(channel.sent) == sent


def test_that_nothing_waits_is_said_in_a_sentence(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(Losing(), home, monkeypatch)
    for words in (("resend",), ("resend", "--all")):
        told = typed(*words)
        assert (told.exit_code, "nothing waits" in told.stdout) == (0, True), told.output
        assert json.loads(typed(*words, "--json").stdout) == []


def test_all_of_it_is_sent_again_a_line_for_each(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, outbox = waiting(typed, home, monkeypatch, 3)
    ids = sorted(file.stem for file in outbox.iterdir())
    told = typed("resend", "--all")
    # The second consent does not follow the first, of which its giver knew nothing.
    assert [line.split()[1].rstrip(":") for line in told.stdout.splitlines()] == [
        "done",
        "refused",
        "refused",
    ]
    assert [line.split()[0] for line in told.stdout.splitlines()] == ids
    assert (told.exit_code, len(given(channel)), list(outbox.iterdir())) == (Status.FAILED, 1, [])


def test_of_one_patient_what_was_signed_first_is_sent_first_and_those_of_others_do_not_wait_for_it(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, outbox = waiting(typed, home, monkeypatch, 4)
    patients = dict(zip(sorted(file.stem for file in outbox.iterdir()), "aaab", strict=True))
    monkeypatch.setattr(module, "_lane", lambda kept: patients[kept.command_id])
    begun: list[str] = []
    other_is_done = asyncio.Event()

    async def resend(self: At, kept: Kept) -> list[Receipt]:
        begun.append(kept.command_id)
        if patients[kept.command_id] == "b":
            other_is_done.set()
        await other_is_done.wait()
        return [Receipt(command_id=kept.command_id, block=7)]

    monkeypatch.setattr(At, "resend", resend)
    told = typed("resend", "--all")
    assert told.exit_code == 0, told.output
    assert [one for one in begun if patients[one] == "a"] == sorted(
        one for one in begun if patients[one] == "a"
    )


@pytest.mark.parametrize(
    ("failures", "status", "said"),
    [
        ([NotCommitted(FORBIDDEN)], Status.FAILED, "refused"),
        ([UnknownOutcome(LOST, [])], Status.UNKNOWN, "not known"),
        ([NotCommitted(FORBIDDEN), UnknownOutcome(LOST, [])], Status.UNKNOWN, "refused"),
    ],
    ids=["refused", "not known", "both"],
)
def test_one_that_is_refused_or_still_not_known_is_told_and_ends_it_with_its_status(
    failures: list[MeshError],
    status: Status,
    said: str,
    typed: Typed,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting(typed, home, monkeypatch, 3)
    monkeypatch.setattr(module, "_lane", lambda kept: kept.command_id)
    left = list(failures)

    async def resend(self: At, kept: Kept) -> list[Receipt]:
        if left:
            raise left.pop()
        return [Receipt(command_id=kept.command_id, block=7)]

    monkeypatch.setattr(At, "resend", resend)
    told = typed("resend", "--all")
    assert (told.exit_code, said in told.stdout) == (status, True), told.output
    assert len(told.stdout.splitlines()) == 3
    assert told.stdout.count("done") == 3 - len(failures)


def test_where_nobody_answers_the_others_are_not_waited_for(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, outbox = waiting(typed, home, monkeypatch, 20)
    tried: list[str] = []

    async def resend(self: At, kept: Kept) -> Any:
        tried.append(kept.command_id)
        raise NotSent(MeshError(code_pb2.CODE_UNAVAILABLE, "nobody there"), [])

    monkeypatch.setattr(At, "resend", resend)
    told = typed("resend", "--all")
    assert told.exit_code == Status.UNKNOWN
    assert len(tried) < 20
    assert f"{20 - len(tried)} others not sent, and kept" in told.stderr
    assert len(list(outbox.iterdir())) == 20


def test_a_long_list_of_ids_is_not_told(typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, outbox = waiting(typed, home, monkeypatch, 12)
    told = typed("resend", "nothing-like-it")
    assert (told.exit_code, "9 more" in told.output) == (2, True), told.output
    assert sum(file.stem in told.output for file in outbox.iterdir()) == 3
    assert typed("resend", "0", "--all").exit_code == 2
