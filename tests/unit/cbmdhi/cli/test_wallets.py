"""Wallets: encrypted unless it is said otherwise, and what is wrong with one is told in a sentence."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cbmdhi.cli import passphrases
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.main import app
from cbmdhi.wallet import Wallet
from tests.unit.cbmdhi.cli.conftest import Typed

CREATE = ("wallet", "create", "eve", "-m", "mercy")


def _keys(home: Path) -> dict[str, str]:
    return json.loads((home / "wallets" / "eve" / "keys.json").read_text())


def test_without_a_terminal_and_a_passphrase_no_wallet_is_made_and_the_ways_are_told(
    typed: Typed, home: Path
) -> None:
    told = typed(*CREATE, wallet="")
    assert told.exit_code == Status.MISTYPED
    for way in ("CBMDHI_WALLET_PASSPHRASE", "CBMDHI_WALLET_PASSPHRASE_FILE", "/dev/fd/3", "--plain"):
        assert way in told.output
    assert not (home / "wallets" / "eve").exists()


def test_a_wallet_is_plain_when_that_is_said(typed: Typed, home: Path) -> None:
    told = typed(*CREATE, "--plain", wallet="")
    assert (told.exit_code, "unencrypted" in told.output, "keys" in _keys(home)) == (0, True, True)


def test_the_environment_gives_the_passphrase_of_a_wallet_that_is_made_and_opened(
    typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(passphrases.VARIABLE, "correct horse")
    assert typed(*CREATE, wallet="").exit_code == Status.DONE
    assert "sealed" in _keys(home)
    assert typed("wallet", "show", "--offline", wallet="eve").exit_code == Status.DONE
    monkeypatch.setenv(passphrases.VARIABLE, "wrong")
    told = typed("wallet", "show", "--offline", wallet="eve")
    assert (told.exit_code, "does not open" in told.output) == (Status.MISTYPED, True)


def test_a_folder_here_that_has_the_name_of_a_wallet_is_left_alone(
    typed: Typed, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "eve").mkdir(parents=True)
    (elsewhere / "eve" / "letters.txt").write_text("hers")
    monkeypatch.chdir(elsewhere)
    assert typed(*CREATE, "--plain", wallet="").exit_code == Status.DONE
    assert [one.name for one in (elsewhere / "eve").iterdir()] == ["letters.txt"]
    assert typed("wallet", "show", "--offline", wallet="eve").exit_code == Status.DONE

    for folder in ("./eve", "."):
        told = typed("wallet", "create", folder, "-m", "mercy", "--plain", wallet="")
        assert (told.exit_code, "holds other things" in told.output) == (Status.MISTYPED, True), told.output
    assert [one.name for one in elsewhere.rglob("*")] == ["eve", "letters.txt"]


def test_where_there_is_no_network_a_newcomer_is_told_what_makes_a_wallet_and_nothing_is_made(
    typed: Typed, home: Path
) -> None:
    (home / "consortium.json").unlink()
    told = typed(*CREATE, "--plain", wallet="")
    assert told.exit_code == Status.MISTYPED
    assert told.output.startswith(f"FILE there is no consortium file at {home}")
    assert "any member of your consortium gives it to you: name it with --consortium FILE" in told.output
    assert not (home / "wallets" / "eve").exists()


def test_a_wallet_is_made_of_a_consortium_file_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, nowhere = tmp_path / "given.json", tmp_path / "home" / "of" / "nobody"
    file.write_text((home / "consortium.json").read_text())
    words = [*CREATE, "--plain", "--consortium", str(file), "--home", str(nowhere)]
    monkeypatch.setattr(sys, "argv", ["cbmdhi", *words])
    told = CliRunner().invoke(app, words)
    assert told.exit_code == Status.DONE, told.output
    assert (nowhere / "wallets" / "eve" / "keys.json").is_file()


def test_a_file_gives_the_passphrase(typed: Typed, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = home / "secret"
    file.write_text("correct horse\n")
    assert typed(*CREATE, "--passphrase-file", str(file), wallet="").exit_code == Status.DONE
    monkeypatch.setenv(passphrases.FILE_VARIABLE, str(file))
    assert typed("wallet", "show", "--offline", wallet="eve").exit_code == Status.DONE
    assert Wallet.load(home / "wallets" / "eve", "correct horse").member == "MercyMSP"


def test_a_descriptor_gives_the_passphrase(home: Path) -> None:
    program = [sys.executable, "-m", "cbmdhi.cli.main", *CREATE, "--home", str(home)]
    told = subprocess.run(
        ["sh", "-c", 'exec "$@" 3<<END\ncorrect horse\nEND', "sh", *program],
        env={**os.environ, passphrases.FILE_VARIABLE: "/dev/fd/3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == Status.DONE, told.stderr
    assert Wallet.load(home / "wallets" / "eve", "correct horse").member == "MercyMSP"


def test_an_empty_passphrase_is_none(typed: Typed, home: Path) -> None:
    (home / "empty").write_text("\n")
    told = typed(*CREATE, "--passphrase-file", str(home / "empty"), wallet="")
    assert (told.exit_code, (home / "wallets" / "eve").exists()) == (Status.MISTYPED, False)


def test_at_a_terminal_the_passphrase_is_asked_for_twice_and_not_shown(home: Path) -> None:
    with _terminal(home, *CREATE) as terminal:
        assert "nobody can recover it" in _read_until(terminal, ": ")
        os.write(terminal, b"correct horse\n")
        assert "Once more" in _read_until(terminal, ": ")
        os.write(terminal, b"correct horse\n")
        assert "correct horse" not in _read_until(terminal, "encrypted")
    assert Wallet.load(home / "wallets" / "eve", "correct horse").member == "MercyMSP"


def test_what_was_typed_differently_the_second_time_makes_nothing(home: Path) -> None:
    with _terminal(home, *CREATE) as terminal:
        for typed in (b"correct horse\n", b"corect horse\n"):
            _read_until(terminal, ": ")
            os.write(terminal, typed)
        assert "nothing was made" in _read_until(terminal, "again")
    assert not (home / "wallets" / "eve").exists()


@contextmanager
def _terminal(home: Path, *words: str) -> Iterator[int]:
    """The command line at a terminal."""
    master, slave = pty.openpty()
    program = [sys.executable, "-m", "cbmdhi.cli.main", *words, "--home", str(home)]
    running = subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        yield master
        running.wait(60)
    finally:
        running.kill()
        running.wait(60)
        os.close(master)


def _read_until(terminal: int, ending: str) -> str:
    """What is shown, up to there. After the space of a question what is typed counts."""
    read = ""
    while ending not in read:
        read += os.read(terminal, 1024).decode()
    return read


def test_a_wallet_that_is_there_is_said_so_before_a_passphrase_is_asked_for(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**_: object) -> str:
        raise AssertionError("a passphrase was asked for")

    monkeypatch.setattr(passphrases, "to_create", asked)
    told = typed("wallet", "create", "anna", "-m", "mercy", wallet="")
    assert (told.exit_code, "there is a wallet in" in told.output) == (Status.MISTYPED, True)


def test_a_plain_wallet_asks_for_nothing(home: Path) -> None:
    assert passphrases.to_open(home / "wallets" / "anna") == ""


def test_an_encrypted_wallet_without_a_passphrase_says_how_it_is_given(home: Path) -> None:
    Wallet.create(home / "wallets" / "eve", home / "consortium.json", "mercy", passphrase="x")
    with pytest.raises(Failure, match="has a passphrase, and it was not given"):
        passphrases.to_open(home / "wallets" / "eve")


@pytest.mark.parametrize("content", [b"{}", b"[]", b"null", b"", b"{", b'{"version": 1, "sealed": "zz"}'])
def test_a_wallet_without_keys_is_not_said_to_have_a_passphrase(
    content: bytes, typed: Typed, home: Path
) -> None:
    (home / "wallets" / "anna" / "keys.json").write_bytes(content)
    told = typed("wallet", "show", "--offline")
    if b"sealed" not in content:
        assert "passphrase" not in told.output
    assert (told.exit_code, "Traceback" in told.output) == (Status.MISTYPED, False), told.output


@pytest.mark.parametrize("name", ["wallet.json", "consortium.json", "certificate.pem"])
def test_a_wallet_with_a_broken_file_is_told_in_a_sentence(name: str, typed: Typed, home: Path) -> None:
    (home / "wallets" / "anna" / name).write_text("{}")
    # So that the network is not said to be down before.
    (home / "consortium.json").unlink()
    told = typed("list")
    assert (told.exit_code, "INTERNAL" in told.output) == (Status.MISTYPED, False), told.output
