"""Before a vote it is shown what there is to look at; a trace is named only where one is kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cbmdhi.cli import passphrases, shared
from cbmdhi.cli.exits import Status
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.identity.v1.identity_pb2 import ReviewResponse
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli.conftest import Typed

PATIENT = "cb1zcynahh4slrtorcscddpcmjprqj3enok"
ACTIVE = "cb1bbynahh4slrtorcscddpcmjprqj3enok"
CLINICIAN = "cb1aaynahh4slrtorcscddpcmjprqj3enok"


class Reviews(SimpleNamespace):
    """As much of a client as reviews need."""

    def __init__(self, wallet: Wallet) -> None:
        super().__init__(wallet=wallet, registration=self)
        self.waiting = [
            IdentityDocument(
                address=address, role=role, home_msp="MercyMSP", status=state_pb2.IDENTITY_STATUS_PENDING
            )
            for address, role in ((PATIENT, pb.ROLE_PATIENT), (CLINICIAN, pb.ROLE_CLINICIAN))
        ]
        self.known: list[IdentityDocument] = []
        self.voted: list[tuple[str, bool]] = []

    async def __aenter__(self) -> Reviews:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def pending(self) -> list[Any]:
        return [SimpleNamespace(identity=one) for one in self.waiting]

    async def identity(self, address: str) -> IdentityDocument:
        for one in (*self.waiting, *self.known):
            if one.address == address:
                return one
        raise MeshError(code_pb2.CODE_NOT_FOUND, "no identity")

    async def evidence(self, _: IdentityDocument) -> dict[str, str]:
        return {"name": "Anna"}

    async def review(self, identity: IdentityDocument, *, approve: bool, reason_code: str) -> ReviewResponse:
        self.voted.append((identity.address, approve))
        return ReviewResponse(identity=identity)


@pytest.fixture
def reviews(home: Path, monkeypatch: pytest.MonkeyPatch) -> Reviews:
    made = Reviews(Wallet.load(home / "wallets" / "anna"))
    (home / "consortium.json").unlink()
    monkeypatch.setattr(shared, "Client", lambda *_: made)
    return made


def test_without_an_address_it_is_said_who_waits(typed: Typed, reviews: Reviews) -> None:
    told = typed("review", "approve")
    assert PATIENT in told.output
    assert f"review approve {PATIENT} -w anna" in told.stderr
    assert reviews.voted == []


@pytest.mark.parametrize("words", [("approve",), ("list",)], ids=" ".join)
def test_that_nothing_waits_is_said(words: tuple[str, ...], typed: Typed, reviews: Reviews) -> None:
    reviews.waiting = []
    told = typed("review", *words)
    assert (told.exit_code, "nothing waits for this member's vote" in told.output) == (0, True)
    told = typed("review", "approve", "cb1zcyna")
    assert (told.exit_code, "nothing waits" in told.output) == (Status.MISTYPED, True)


@pytest.mark.parametrize("verb", ["approve", "show", "reject", "withdraw"])
def test_of_a_beginning_that_nobody_has_it_is_said_who_waits(
    verb: str, typed: Typed, reviews: Reviews
) -> None:
    told = typed("review", verb, "cb1zzzz")
    assert told.exit_code == Status.MISTYPED
    assert f"begins with 'cb1zzzz'; there are: {CLINICIAN}, {PATIENT}" in told.output


@pytest.mark.parametrize("is_known", [True, False])
def test_of_an_address_that_does_not_wait_it_is_said_who_does(
    is_known: bool, typed: Typed, reviews: Reviews
) -> None:
    active = IdentityDocument(address=ACTIVE, status=state_pb2.IDENTITY_STATUS_ACTIVE)
    reviews.known = [active] if is_known else []
    told = typed("review", "approve", ACTIVE)
    assert told.exit_code == Status.FAILED
    assert f"it is {'active' if is_known else 'not known'}; for this member's vote waits:" in told.output
    assert f"{CLINICIAN}, {PATIENT}" in told.output


def test_a_patients_evidence_is_shown_with_who_it_is_before_the_vote(typed: Typed, reviews: Reviews) -> None:
    told = typed("review", "approve", "cb1zcyna")
    assert json.loads(told.stdout[: told.stdout.index("}") + 1]) == {"name": "Anna"}
    assert f"patient {PATIENT} of MercyMSP" in told.stderr
    assert "voted: nobody yet" in told.stderr
    assert reviews.voted == [(PATIENT, True)]


def test_of_staff_it_is_said_that_there_is_nothing_else_to_look_at(typed: Typed, reviews: Reviews) -> None:
    told = typed("review", "approve", "cb1aay")
    assert "the CA of MercyMSP certifies this clinician: there is nothing else to look at" in told.stderr
    assert reviews.voted == [(CLINICIAN, True)]


@pytest.mark.parametrize("agrees", [True, False])
def test_at_a_terminal_it_is_asked_before_the_vote(
    agrees: bool, typed: Typed, reviews: Reviews, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passphrases, "at_terminal", lambda: True)
    monkeypatch.setattr("cbmdhi.cli.registrations.typer.confirm", lambda *_, **__: agrees)
    told = typed("review", "approve", "cb1zcyna")
    assert (bool(reviews.voted), told.exit_code) == (agrees, 0 if agrees else Status.INTERRUPTED)
    assert ("nothing was voted" in told.output) == (not agrees)


@pytest.mark.parametrize("is_traced", [True, False])
def test_a_trace_is_named_only_where_one_is_kept(
    is_traced: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_traced:
        (home / "traced").touch()
    (home / "record.json").write_text('{"resourceType": "Observation"}')

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shared, "with_client", stopped)
    told = typed("put", str(home / "record.json"), "-p", PATIENT, "--trace").stderr
    assert ("its trace: " in told, "up --traced" in told) == (is_traced, not is_traced)
