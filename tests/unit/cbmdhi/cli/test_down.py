"""Where nothing answers, a person is told whom was asked, at once where it is certain, and what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.cli import hints
from cbmdhi.cli.exits import Status
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.wallet import Wallet
from ops.devnet.supervision import ProgramState
from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"


@pytest.mark.parametrize(
    "words", [("wallet", "enrol"), ("list",), ("consent", "grant", SOMEBODY), ("audit",)], ids=" ".join
)
def test_of_a_network_that_is_down_it_is_said_without_asking_it(
    words: tuple[str, ...], typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("the gateway was asked")

    monkeypatch.setattr("cbmdhi.client.connection.connected", asked)
    told = typed(*words)
    assert told.exit_code == Status.NOT_NOW
    for part in (
        f"the network at {home} is down, so nothing was sent",
        "the gateway of mercy, at 127.0.0.1:1",
        f"status --home {home}",
        f"up --home {home}",
        "-m lakeside",
    ):
        assert part in told.output, told.output


@pytest.mark.parametrize(("state", "is_down"), [("STOPPED", True), ("FATAL", True), ("STARTING", False)])
def test_a_gateway_is_waited_for_while_its_supervisor_may_start_it(
    state: str, is_down: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {"mercy-gateway": ProgramState("mercy-gateway", state, 0, 0, "")}
    monkeypatch.setattr("ops.devnet.supervision.Supervisor.states", lambda _: states)
    found = hints.down(hints.Typist(home, "anna"), Wallet.load(home / "wallets" / "anna"))
    assert (found is not None) == is_down


async def test_what_listens_is_asked_whatever_the_supervisor_says(home: Path) -> None:
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    for file in (home / "consortium.json", home / "wallets" / "anna" / "consortium.json"):
        file.write_text(file.read_text().replace("127.0.0.1:1", f"127.0.0.1:{port}"))
    async with listening:
        assert hints.down(hints.Typist(home, "anna"), Wallet.load(home / "wallets" / "anna")) is None


def test_a_wallet_of_another_network_is_not_told_that_this_one_is_down(home: Path) -> None:
    wallet = Wallet.load(home / "wallets" / "anna")
    file = home / "consortium.json"
    file.write_text(file.read_text().replace("ab" * 32, "cd" * 32))
    assert hints.down(hints.Typist(home, "anna"), wallet) is None
    away = MeshError(code_pb2.CODE_DEADLINE_EXCEEDED, "no answer", outcome=code_pb2.OUTCOME_NOT_DONE)
    wallet.certificate_pem = "some"
    assert any("-m lakeside" in line for line in hints.of(away, hints.Typist(home, "anna"), wallet).lines)
