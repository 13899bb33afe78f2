"""What a command prints to be typed next holds as it is typed; a closed list is told where its words are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from cbmdhi.cli import hints, lazy, shared
from cbmdhi.cli.exits import Status
from cbmdhi.cli.main import app
from cbmdhi.cli.wallet import _identity
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.errors import MeshError
from cbmdhi.gateway.v1 import gateway_pb2
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli.conftest import Typed

ROOT = Path(__file__).resolve().parents[4]
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


EVE = ("wallet", "create", "eve", "-m", "mercy", "--plain", "--role")


def test_staff_are_led_to_an_invitation_by_whoever_can_give_it(typed: Typed, home: Path) -> None:
    made = typed(*EVE, "clinician", wallet="").output
    address = Wallet.load(home / "wallets" / "eve").address
    # Who that is has another home, at another machine.
    assert (
        f"an administrator of mercy invites it: cbmdhi invite {address} --role clinician -w THEIRS\n" in made
    )


def test_staff_are_led_to_an_invitation_by_an_administrator_whose_wallet_lies_here(
    typed: Typed, home: Path
) -> None:
    folder = home / "wallets" / "mercy-administrator"
    Wallet.create(folder, home / "consortium.json", "mercy", pb.ROLE_ADMINISTRATOR)
    made = typed(*EVE, "clinician", wallet="").output
    assert f"--role clinician -w mercy-administrator --home {home}\n" in made


def test_the_first_administrator_is_led_to_the_operator(typed: Typed, home: Path) -> None:
    made = typed(*EVE, "administrator", wallet="").output
    address = Wallet.load(home / "wallets" / "eve").address
    assert f"its operator: {hints.command_for(home, 'operator-invite', 'mercy', address)}\n" in made


@pytest.mark.parametrize("lies_here", [True, False])
def test_who_is_invited_is_told_what_they_type_with_the_secret(
    lies_here: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "with_client", lambda *_: "-s3cr3t")
    address = SOMEBODY
    if lies_here:
        address = Wallet.create(home / "wallets" / "eve", home / "consortium.json", "mercy").address
    told = typed("invite", address, "--role", "clinician").output
    theirs = f"wallet enrol -w eve --home {home}\n" if lies_here else "cbmdhi wallet enrol -w WALLET\n"
    assert "they type: CBMDHI_INVITATION=-s3cr3t " in told
    assert told.endswith(theirs), told


@pytest.mark.parametrize(
    ("code", "role", "is_told"),
    [
        (code_pb2.CODE_UNAUTHENTICATED, pb.ROLE_CLINICIAN, True),
        (code_pb2.CODE_INTERNAL, pb.ROLE_CLINICIAN, False),
        (code_pb2.CODE_UNAUTHENTICATED, pb.ROLE_PATIENT, False),
    ],
)
def test_who_could_not_be_enrolled_is_not_told_to_enrol(
    code: int, role: pb.Role, is_told: bool, typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet.create(home / "wallets" / "eve", home / "consortium.json", "mercy", role)

    class Refusing(Client):
        def __init__(self, *_: object) -> None:
            self.wallet, self.registration = wallet, self  # type: ignore[assignment]

        async def enrol(self, _: str) -> None:
            raise MeshError(code, "no")

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(hints, "down", lambda *_: None)
    monkeypatch.setattr(shared, "Client", Refusing)
    told = typed("wallet", "enrol", "--secret", "wrong", wallet="eve").output
    assert "is it enrolled" not in told
    assert (f"cbmdhi invite {wallet.address} --role clinician -w THEIRS" in told) == is_told, told
    assert ("the last invitation" in told) == is_told


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (code_pb2.CODE_CONFLICT, ("wallet", "register", "--evidence", "evidence.json"), "registered shows: "),
        (code_pb2.CODE_INACTIVE_SIGNER, ("list",), "what is next says: "),
    ],
)
def test_who_waits_for_a_review_is_told_what_shows_it(
    code: int,
    words: tuple[str, ...],
    says: str,
    typed: Typed,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    anna = Wallet.load(home / "wallets" / "anna")
    anna.certificate_pem = "a certificate"

    class Waiting(Client):
        def __init__(self, *_: object) -> None:
            self.wallet, self.registration, self.records = anna, self, self  # type: ignore[assignment]

        async def register(self, *_: object) -> None:
            raise MeshError(code, "not now")

        async def list(self, *_: object, **__: object) -> None:
            raise MeshError(code, "not now")

        async def __aexit__(self, *_: object) -> None: ...

    (home / "evidence.json").write_text('{"name": "Anna"}')
    monkeypatch.chdir(home)
    monkeypatch.setattr(hints, "down", lambda *_: None)
    monkeypatch.setattr(shared, "open_wallet", lambda *_: anna)
    monkeypatch.setattr(shared, "Client", Waiting)
    told = typed(*words).output
    assert f"{says}{hints.command_for(home, 'wallet', 'show', '-w', 'anna')}\n" in told


def test_where_nobody_runs_a_network_no_command_of_operators_is_named(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "record.json").write_text('{"resourceType": "Observation"}')
    reachable = typed("list").output
    assert f"what runs: {hints.command_for(home, 'status')}\n" in reachable
    assert f"to start it: {hints.command_for(home, 'up')}\n" in reachable
    monkeypatch.setattr(lazy, "all_added", lazy.Added)
    away = MeshError(code_pb2.CODE_UNAVAILABLE, "no answer", outcome=code_pb2.OUTCOME_NOT_DONE)
    anna = Wallet.load(home / "wallets" / "anna")
    told = [
        *hints.of(away, hints.Typist(home, "anna"), anna).lines,
        typed("put", str(home / "record.json"), "-p", SOMEBODY, "--trace").output,
        typed("wallet", "create", "eve", "-m", "mercy", "--consortium", "nowhere", wallet="").output,
    ]
    for operators in (" up", " status", " trace "):
        assert f"cbmdhi{operators}" not in "\n".join(told)


def test_no_text_of_the_program_names_a_command_that_there_is_not() -> None:
    found = []
    for file in [*ROOT.glob("cbmdhi/**/*.py"), *ROOT.glob("ops/**/*.py"), *ROOT.glob("bench/**/*.py")]:
        for named in re.findall(r"`cbmdhi ([a-z][a-z-]*(?: [a-z-]+)?)", file.read_text()):
            command, *below = named.split()
            known = get_command(app).commands.get(command)  # type: ignore[attr-defined]
            assert known is not None, (file, named)
            loaded = known.declared.load()
            if below and isinstance(loaded, TyperGroup):
                assert below[0] in loaded.commands, (file, named)
            found.append(named)
    assert len(found) > 20


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
        (("review", "reject", SOMEBODY, "--reason", "foo"), "document-mismatch"),
        (("review", "suspend", SOMEBODY, "lost-keys"), "did you mean lost-key?"),
        (("emergency", "open", "some", "-p", SOMEBODY, "--reason", "bored"), "unconscious"),
    ],
)
def test_a_word_of_a_closed_list_is_told_with_the_list(
    words: tuple[str, ...], named: str, typed: Typed
) -> None:
    told = typed(*words)
    assert (told.exit_code, "there is no " in told.output, named in told.output) == (2, True, True), (
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
