"""Where nobody can tell what became of something signed, its ids are told, and it can be sent again."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from cbmdhi.cli import shared
from cbmdhi.cli.exits import Status
from cbmdhi.client import Client
from cbmdhi.client.connection import Connection
from cbmdhi.client.consents import Consents
from cbmdhi.client.outbox import Outbox
from cbmdhi.client.records import Prepared, Written
from cbmdhi.client.registration import Registration
from cbmdhi.client.writing import Writes
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, UnknownOutcome
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.ledger.v1.ledger_pb2 import Receipt
from cbmdhi.protocol import command
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli.conftest import Typed
from tests.unit.cbmdhi.client.test_consents import Channel, given

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"


@dataclass
class Losing(Channel):
    """Loses its answers to the first `losses` submissions: carried to the channel, or not."""

    losses: int = 1
    carries: bool = True
    sent: list[gateway_pb2.SubmitRequest] = field(default_factory=list)
    first: gateway_pb2.RecordReceipt = field(default_factory=gateway_pb2.RecordReceipt)

    async def call(self, method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        if not isinstance(request, gateway_pb2.SubmitRequest):
            return await super().call(method, request)
        again = request in self.sent
        self.sent.append(request)
        lost = len(self.sent) <= self.losses
        if again and self.carries:
            return gateway_pb2.SubmitResponse(receipts=[self.first])
        answer = gateway_pb2.SubmitResponse()
        if self.carries or not lost:
            answer = await super().call(method, request)
            self.first = answer.receipts[0]
        if lost:
            raise MeshError(
                code_pb2.CODE_UNKNOWN_OUTCOME, "its fate is not known", outcome=code_pb2.OUTCOME_UNKNOWN
            )
        return answer


@dataclass
class At:
    """As much of a client as consents need, with the folder of the wallet that was typed."""

    channel: Losing
    folder: Path

    def __post_init__(self) -> None:
        self.wallet, self.connection = Wallet.load(self.folder), cast(Connection, self.channel)
        self.consents, self.outbox = Consents(self.connection), Outbox(self.folder)
        self.registration = Registration(self.connection)

    resend = Client.resend

    async def __aenter__(self) -> At:
        return self

    async def __aexit__(self, *_: object) -> None: ...


def at(channel: Losing, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = home / "wallets" / "anna"
    (
        home / "consortium.json"
    ).unlink()  # the home's network is not the wallet's: whether it runs says nothing
    monkeypatch.setattr(shared, "Client", lambda *_: At(channel, folder))
    return folder / "outbox"


@pytest.mark.parametrize("carries", [True, False], ids=["carried", "lost"])
def test_a_consent_of_unknown_outcome_is_named_kept_and_sent_again_as_it_was_signed(
    carries: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Losing(carries=carries)
    unsure = at(channel, home, monkeypatch)

    told = typed("consent", "grant", SOMEBODY)

    [kept] = unsure.iterdir()
    assert told.exit_code == Status.UNKNOWN
    [consent_id] = given(channel) or [_consent_of(channel)]
    for words in (consent_id, kept.stem, "another one", "consent list", f"resend {kept.stem}", "-w anna"):
        assert words in told.output, words
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    again = typed("resend", kept.stem)

    assert again.exit_code == 0, again.output
    assert channel.sent[0] == channel.sent[1]
    assert (list(given(channel)), list(unsure.iterdir())) == ([consent_id], [])


def test_what_is_of_unknown_outcome_once_more_stays(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsure = at(Losing(losses=2, carries=False), home, monkeypatch)
    typed("consent", "grant", SOMEBODY)
    [kept] = unsure.iterdir()
    told = typed("resend", str(kept))
    assert (told.exit_code, list(unsure.iterdir())) == (Status.UNKNOWN, [kept])
    assert f"resend {kept.stem}" in told.output


def test_that_nothing_can_be_kept_hides_no_outcome_that_is_not_known(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(Losing(), home, monkeypatch).write_text("a file in the place of the folder")
    told = typed("consent", "grant", SOMEBODY)
    assert told.exit_code == Status.UNKNOWN, told.output
    for part in ("what was signed", "consent list", "could not be kept"):
        assert part in told.output.lower(), told.output
    assert "resend" not in told.output


def test_machines_get_the_ids_of_what_was_signed(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Losing()
    at(channel, home, monkeypatch)
    error = json.loads(typed("consent", "grant", SOMEBODY, "--json").stdout)["error"]
    [consent_id] = given(channel)
    assert (error["outcome"], error["signed"][0]["consent_id"]) == ("UNKNOWN", consent_id)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kind": "no.such", "request": ""}'])
def test_a_file_that_keeps_nothing_signed_is_told_in_a_sentence(
    content: str, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(Losing(), home, monkeypatch)
    file = home / "file.json"
    file.write_text(content)
    assert typed("resend", str(file)).exit_code == 2
    told = typed("resend", "01a22d4c-e6d0-7195-af6f-7062e602180b")
    assert (told.exit_code, "there are: none" in told.output) == (2, True)


def _consent_of(channel: Losing) -> str:
    return command.body_of(channel.sent[0].group.commands[0])[1].consent_id  # type: ignore[attr-defined]


class Breaking(Writes):
    """Its stream breaks after the first result."""

    async def send(self, prepared: Sequence[Prepared]) -> AsyncIterator[Written]:
        first, *others = prepared
        receipt = Receipt(code=code_pb2.CODE_OK, outcome=code_pb2.OUTCOME_COMMITTED, tx_id="ab")
        yield Written(first.record, gateway_pb2.RecordReceipt(receipt=receipt))
        broke = MeshError(code_pb2.CODE_UNAVAILABLE, "the stream broke", outcome=code_pb2.OUTCOME_UNKNOWN)
        raise UnknownOutcome(broke, [one.item for one in others])


def test_a_stream_that_breaks_takes_nothing_from_what_has_a_result_and_keeps_the_rest(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Losing()
    unsure = at(channel, home, monkeypatch)
    monkeypatch.setattr(At, "records", Breaking(cast(Connection, channel)), raising=False)
    pulse = {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}}
    entry = {"resource": pulse, "request": {"method": "POST", "url": "Observation"}}
    file = home / "bundle.json"
    file.write_text(json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry] * 3}))

    told = typed("put", str(file), "-p", SOMEBODY, "--json")

    rows = json.loads(told.stdout)
    outcomes = [row["outcome"] for row in rows]
    assert (told.exit_code, outcomes) == (Status.UNKNOWN, ["COMMITTED", "UNKNOWN", "UNKNOWN"])
    assert sorted(row["command_id"] for row in rows[1:]) == sorted(kept.stem for kept in unsure.iterdir())
    for row in rows[1:]:
        assert f"record_id {row['record_id']}" in told.stderr
        assert f"resend {row['command_id']} -w anna" in told.stderr
