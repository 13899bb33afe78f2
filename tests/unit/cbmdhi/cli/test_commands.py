"""Every command: its examples, its place in the reference, and that it is loaded only when it is typed."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.testing import CliRunner

from cbmdhi.cli import lazy, reference
from cbmdhi.cli.exits import Failure, Status
from cbmdhi.cli.lazy import Command
from cbmdhi.cli.main import OWN, app
from tests.unit.cbmdhi.cli import printed

ROOT = Path(__file__).resolve().parents[4]
ALL = dict(reference.commands())
ALONE = {path: command for path, command in ALL.items() if not isinstance(command, TyperGroup)}


@pytest.mark.parametrize("path", ALONE)
def test_every_command_has_two_examples_that_can_be_typed(path: str) -> None:
    found = reference.examples(ALONE[path])
    assert len(found) >= 2, path
    for example in found:
        typed = example.split("|")[-1].split(">")[0].strip()
        assert printed.parse(typed).command_path.startswith(path), example


@pytest.mark.parametrize("declared", [*OWN, *lazy.all_added().commands], ids=lambda one: one.name)
def test_what_the_overview_says_of_a_command_is_how_its_own_help_begins(declared: Command) -> None:
    told = " ".join((declared.load().help or "").split())
    assert told.startswith(declared.help.rstrip(".")), told


def test_the_reference_is_what_the_commands_say() -> None:
    assert (ROOT / "docs" / "cli.md").read_text() == reference.text(), "run: cbmdhi docs > docs/cli.md"


def test_the_reference_names_no_path_of_this_machine() -> None:
    assert str(Path.home()) not in reference.text()
    assert str(ROOT) not in reference.text()


def test_the_overview_loads_neither_a_command_nor_what_one_needs() -> None:
    program = (
        "import sys; from cbmdhi.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'grpc', 'google.protobuf', 'cryptography', 'aiohttp', 'cbmdhi.client', 'ops.devnet'}"
        " & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"


def test_the_commands_of_users_import_nothing_of_operators_or_testers() -> None:
    program = (
        "import importlib, sys; from cbmdhi.cli.main import OWN\n"
        "for one in OWN: one.load()\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('ops', 'bench', 'services')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # What is added is named by small modules, which are asked at every start.
    assert set(eval(told.stdout)) <= {"ops", "ops.cli", "bench", "bench.load", "bench.commands"}  # noqa: S307


def _point(name: str, module: ModuleType | None, monkeypatch: pytest.MonkeyPatch) -> EntryPoint:
    if module is not None:
        monkeypatch.setitem(sys.modules, f"added_{name}", module)
    return EntryPoint(name, f"added_{name}", lazy.GROUP)


def _module(**holds: Any) -> ModuleType:
    made = ModuleType("added")
    vars(made).update(holds)
    return made


def _with(added: lazy.Added, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr(lazy, "all_added", lambda: added)
    return CliRunner().invoke(app, list(words))


def test_commands_of_another_distribution_have_a_panel_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    module = _module(COMMANDS=[Command("greet", "added_hello:greet", "Say hello.", "Hospital tools")])
    module.__dict__["greet"] = lambda: told.append("hello")
    added = lazy.added([_point("hello", module, monkeypatch)])
    overview = _with(added, monkeypatch, "--help").output
    assert "Hospital tools" in overview
    assert "Say hello." in overview
    assert _with(added, monkeypatch, "greet").exit_code == Status.DONE
    assert told == ["hello"]


@pytest.mark.parametrize("order", [("east", "west"), ("west", "east")])
def test_the_order_of_commands_is_not_that_in_which_a_disk_lists_distributions(
    order: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        _point(
            name,
            _module(COMMANDS=[Command(name, f"added_{name}:x", "", "")], WHY_DOWN=f"added_{name}:why"),
            monkeypatch,
        )
        for name in order
    ]
    added = lazy.added(points)
    assert [command.name for command in added.commands] == ["east", "west"]
    assert added.why_down == ("added_east:why", "added_west:why")


def test_without_the_operators_distribution_their_commands_are_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overview = _with(lazy.Added(), monkeypatch, "--help")
    assert (overview.exit_code, "doctor" in overview.output) == (Status.DONE, False)
    told = _with(lazy.Added(), monkeypatch, "up")
    assert (told.exit_code, "there is no command 'up' here" in told.output) == (Status.MISTYPED, True)
    assert "clone of the repository" in told.output


def test_a_distribution_that_is_broken_is_a_sentence_and_takes_no_other_command_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = lazy.added([_point("broken", None, monkeypatch)])
    assert _with(added, monkeypatch, "put", "--help").exit_code == Status.DONE
    told = _with(added, monkeypatch, "up")
    assert told.exit_code == Status.MISTYPED
    assert "the commands of 'broken' cannot be loaded from added_broken (ModuleNotFoundError" in told.output
    assert "Traceback" not in told.output


def test_a_command_that_cannot_be_loaded_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(COMMANDS=[Command("greet", "added_nowhere:greet", "Say hello.", "Tools")])
    added = lazy.added([_point("hello", module, monkeypatch)])
    told = _with(added, monkeypatch, "greet")
    assert told.exit_code == Status.FAULT
    assert "`cbmdhi greet` cannot be loaded from added_nowhere:greet" in told.output
    assert "Traceback" not in told.output


def test_nobody_takes_the_name_of_a_command_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(COMMANDS=[Command("put", "added_thief:put", "Take it.", "Tools")])
    overview = _with(lazy.added([_point("thief", module, monkeypatch)]), monkeypatch, "--help").output
    assert "Take it." not in overview


def test_whoever_can_say_why_a_program_does_not_run_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(COMMANDS=[], WHY_DOWN="added_net:why", why=lambda home, program: f"{program} is away")
    added = lazy.added([_point("net", module, monkeypatch)])
    monkeypatch.setattr(lazy, "all_added", lambda: added)
    assert [asked(Path("/"), "mercy-gateway") for asked in lazy.why_down()] == ["mercy-gateway is away"]


def test_a_failure_of_loading_says_what_to_do() -> None:
    with pytest.raises(Failure, match="install the distribution"):
        Command("greet", "nowhere:greet", "", "").load()


def test_the_version_is_printed() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout.strip()) == (0, __import__("cbmdhi").__version__)
