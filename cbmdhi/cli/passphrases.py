"""Passphrases of wallets: asked for at a terminal, and else read from where the environment says."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import typer

from cbmdhi.cli.exits import Failure, Status

VARIABLE = "CBMDHI_WALLET_PASSPHRASE"
FILE_VARIABLE = "CBMDHI_WALLET_PASSPHRASE_FILE"
WAYS = (
    f"at a terminal it is asked for; without one set {VARIABLE}, or {FILE_VARIABLE} to a file "
    "(/dev/fd/3 is the descriptor 3)"
)


def to_open(folder: Path) -> str:
    """The passphrase of the wallet in that folder; empty when it needs none. Raises Failure."""
    if not _is_encrypted(folder):
        return ""
    found = _given() or (_ask(f"Passphrase of {folder.name}") if at_terminal() else "")
    if not found:
        raise _missing(f"the wallet in {folder} has a passphrase, and it was not given", [WAYS])
    return found


def to_create(*, plain: bool, file: Path | None) -> str:
    """The passphrase of a new wallet; empty with `plain`. Raises Failure when there is none."""
    if plain:
        return ""
    found = _first_line(file) if file is not None else _given()
    if found:
        return found
    if not at_terminal():
        raise _missing(
            "a wallet is encrypted, and no passphrase was given",
            [WAYS, "with --plain the keys are kept unencrypted: whoever reads the folder has them"],
        )
    first = _ask("Passphrase for the new wallet (nobody can recover it)")
    if not first:
        raise _missing("an empty passphrase encrypts nothing", ["type one, or say --plain"])
    if _ask("Once more") != first:
        raise _missing("the two are not the same; nothing was made", ["type the command again"])
    return first


def at_terminal() -> bool:
    """True when there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _ask(question: str) -> str:
    return str(typer.prompt(question, hide_input=True, default="", show_default=False, err=True))


def _given() -> str:
    if found := os.environ.get(VARIABLE, ""):
        return found
    file = os.environ.get(FILE_VARIABLE, "")
    return _first_line(Path(file)) if file else ""


def _first_line(file: Path) -> str:
    try:
        lines = file.read_text().splitlines()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or "it is no text"
        reason = f"the passphrase cannot be read from {file}: {why}"
        raise Failure("FILE", reason, status=Status.MISTYPED, next_steps=[WAYS]) from error
    if not lines or not lines[0]:
        raise _missing(f"{file} holds no passphrase: its first line is it, and it is empty", [])
    return lines[0]


def _is_encrypted(folder: Path) -> bool:
    """What cannot be read `Wallet.load` complains of."""
    try:
        document = json.loads((folder / "keys.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and "sealed" in document


def _missing(reason: str, next_steps: list[str]) -> Failure:
    return Failure("USAGE", reason, status=Status.MISTYPED, next_steps=next_steps)
