"""Whatever is typed ends with a status of the table and no traceback, as JSON where that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.testing import CliRunner, Result

from cbmdhi.cli import reference
from cbmdhi.cli.exits import MEANING, Status
from cbmdhi.cli.main import app
from ops.devnet import DevnetError
from tests.unit.cbmdhi.cli import printed

ALL = dict(reference.commands())
ALONE = {path: command for path, command in ALL.items() if not isinstance(command, TyperGroup)}

NUMBERS = ("", "-1", "99999999999999999999", "nan")
TEXTS = ("", "-1", "'; --", "\udcff[/]…%s{0}")
PATHS = ("", "/", "/proc/self/mem", "'; --")
# Of arguments, which are what people type most: a file, an id, a date, a word with a meaning elsewhere.
ARGUMENTS = (
    *TEXTS,
    *PATHS,
    *(
        " ",
        "/nowhere/at/all",
        "../../etc/passwd",
        "cb1zz",
        "[bold]",
        "…",
        "\U0001f600" * 50,
        "a:b:c",
        "a/b/c",
    ),
)


@pytest.fixture(autouse=True)
def _alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the home of a network that is down, so that nobody is asked, and none is started."""
    monkeypatch.setenv("CBMDHI_HOME", str(home))
    monkeypatch.setenv("CBMDHI_WALLET", "anna")
    for word in ("up", "down", "clean"):
        monkeypatch.setattr(f"ops.devnet.network.Network.{word}", _touched)
    monkeypatch.setattr("ops.backup.member.restore", _touched)
    monkeypatch.chdir(home)


def _touched(*_: object, **__: object) -> None:
    raise DevnetError("no network is touched in this test", "go on")


def _type(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def _ended_well(told: Result, *words: str) -> None:
    typed = (words, told.output, told.exception)
    assert told.exit_code in set(MEANING), typed
    assert told.exit_code != Status.FAULT, typed
    assert "Traceback" not in told.output, typed
    if "--json" in words and told.exit_code not in (Status.DONE, Status.FAILED):
        assert json.loads(told.stdout)["error"]["exit"] == told.exit_code, typed
    if not told.stdout.startswith("# "):
        printed.check(told)


def _words_of(path: str) -> list[str]:
    return path.split()[1:]


def _good(one: Any) -> str:
    """Something that the parameter takes, whether or not it is of use."""
    return "1" if one.bare_type() in ("int", "float") else "x"


def _garbage(one: Any) -> tuple[str, ...]:
    if one.param_type_name == "argument":
        return ARGUMENTS
    return {"int": NUMBERS, "float": NUMBERS, "Path": PATHS}.get(one.bare_type(), TEXTS)


def _required(command: Any, but: Any = None) -> list[str]:
    """A command line with all that is required, but for one."""
    words: list[str] = []
    for one in command.params:
        if one is but or not one.required:
            continue
        is_option = one.param_type_name == "option"
        words += [one.opts[0], *([] if one.is_flag else [_good(one)])] if is_option else [_good(one)]
    return words


@pytest.mark.parametrize("path", ALL)
def test_every_command_shows_its_help(path: str) -> None:
    told = _type(*_words_of(path), "--help")
    assert (told.exit_code, "Usage: " in told.stdout) == (Status.DONE, True), told.output


@pytest.mark.parametrize("path", ALL)
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["plain", "json"])
def test_every_command_without_a_word_ends_well(path: str, more: tuple[str, ...]) -> None:
    words = (*_words_of(path), *(more if path in ALONE else ()))
    _ended_well(_type(*words), *words)


@pytest.mark.parametrize("path", ALL)
def test_an_option_that_there_is_not_is_told(path: str) -> None:
    words = (*_words_of(path), "--nonsense", "--json")
    told = _type(*words)
    assert told.exit_code == Status.MISTYPED, told.output
    _ended_well(told, *words)


@pytest.mark.parametrize("path", ALONE)
def test_no_value_of_an_option_or_an_argument_is_a_traceback(path: str) -> None:
    command = ALONE[path]
    for one in command.params:
        if one.name == "help" or getattr(one, "is_flag", False):
            continue
        for garbage in _garbage(one):
            others = _required(command, one)
            given = [one.opts[0], garbage] if one.param_type_name == "option" else ["--", garbage]
            words = [*_words_of(path), "--json", *others, *given]
            _ended_well(_type(*words), *words)
