"""What a command prints to be typed next holds as it is typed; a closed list is told where its words are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cbmdhi.cli import shared
from cbmdhi.cli.exits import Status
from cbmdhi.cli.wallet import _identity
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli.conftest import Typed

SOMEBODY = "cb1zcynahh4slrtorcscddpcmjprqj3enok"


def test_a_patient_is_led_from_keys_to_registration(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = typed("wallet", "create", "eve", "-m", "mercy", "--plain", wallet="").output
    assert f"wallet enrol -w eve --home {home}" in made
    assert f"wallet register --evidence FILE -w eve --home {home}" in made
    eve = Wallet.load(home / "wallets" / "eve")
    monkeypatch.setattr(shared, "with_client", lambda *_: eve)
    assert (
        f"wallet register --evidence FILE -w eve --home {home}"
        in typed("wallet", "enrol", wallet="eve").output
    )


def test_staff_are_led_to_an_invitation_of_the_same_network(typed: Typed, home: Path) -> None:
    made = typed("wallet", "create", "eve", "-m", "mercy", "--role", "clinician", "--plain", wallet="").output
    assert "--role clinician -w THEIRS" in made
    assert made.count(f"--home {home}") == 1


def test_a_wallet_is_shown_before_it_is_enrolled(typed: Typed, home: Path) -> None:
    told = typed("wallet", "show")
    assert told.exit_code == 0
    for part in (
        Wallet.load(home / "wallets" / "anna").address,
        "not enrolled",
        "wallet enrol -w anna --home",
    ):
        assert part in told.output, part
    assert "wallet enrol -w anna" in json.loads(typed("wallet", "show", "--json").stdout)["next"]


def test_a_wallet_is_shown_before_it_is_registered(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "wallets" / "anna" / "certificate.pem").write_text("a certificate")
    monkeypatch.setattr(shared, "with_client", lambda *_: None)
    told = typed("wallet", "show")
    assert told.exit_code == 0
    for part in ("not registered", "wallet register --evidence FILE -w anna --home"):
        assert part in told.output, part


async def test_that_a_wallet_is_not_registered_is_no_other_failure() -> None:
    def client(code: int) -> Any:
        async def identity() -> IdentityDocument:
            raise MeshError(code, "no")

        return SimpleNamespace(registration=SimpleNamespace(identity=identity))

    assert await _identity(client(code_pb2.CODE_NOT_FOUND)) is None
    with pytest.raises(MeshError):
        await _identity(client(code_pb2.CODE_UNAVAILABLE))


def test_a_consent_is_taken_back_by_the_same_wallet(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "with_client", lambda *_: ("ID", gateway_pb2.RecordReceipt()))
    assert f"consent revoke ID -w anna --home {home}" in typed("consent", "grant", SOMEBODY).output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("consent", "grant", SOMEBODY, "--purpose", "treat"), "TREAT"),
        (("consent", "grant", SOMEBODY, "--category", "labs"), "observations"),
        (("list", "--purpose", "foo"), "PATRQT"),
        (("list", "--category", "foo"), "observations"),
        (("get", "some", "-p", SOMEBODY, "--purpose", "foo"), "HRESCH"),
    ],
)
def test_a_word_of_a_closed_list_is_told_with_the_list(
    words: tuple[str, ...], named: str, typed: Typed
) -> None:
    told = typed(*words)
    assert (told.exit_code, "is not one of" in told.output, named in told.output) == (2, True, True), (
        told.output
    )


@pytest.mark.parametrize(
    "words",
    [("put", "FILE"), ("get", "some"), ("list",), ("emergency", "open", "some", "--reason", "unconscious")],
)
def test_a_name_instead_of_an_address_is_told_how_to_get_it(words: tuple[str, ...], typed: Typed) -> None:
    told = typed(*words, "-p", "anna", wallet="mercy-engine")
    assert told.exit_code == 2
    assert "wallet show -w anna --home" in told.output, told.output


def test_who_is_not_enrolled_is_told_what_to_do_first(typed: Typed, home: Path) -> None:
    (home / "consortium.json").unlink()  # so that the network is not said to be down
    told = typed("list")
    shows = "wallet show -w anna --home" in told.output
    assert (told.exit_code, shows) == (Status.MISTYPED, True), told.output


@pytest.mark.parametrize(("member", "is_told"), [("lakeside", True), ("mercy", False)])
def test_an_empty_inbox_elsewhere_says_where_it_is_kept(
    member: str, is_told: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet.load(home / "wallets" / "anna")

    class Empty(Client):
        def __init__(self, *_: object) -> None:
            self.wallet, self.member = wallet, wallet.consortium.member_named(member)
            self.inbox = self  # type: ignore[assignment]

        async def list(self, **_: object) -> list[Any]:
            return []

        async def __aexit__(self, *_: object) -> None: ...

    (home / "consortium.json").unlink()
    monkeypatch.setattr(shared, "Client", Empty)
    told = typed("inbox", "-m", member)
    assert (told.exit_code, "home member, which is mercy" in told.output) == (0, is_told), told.output
