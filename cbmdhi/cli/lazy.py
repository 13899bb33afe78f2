"""Commands that are loaded when they are typed: ours, and those that other distributions add.

A distribution adds commands by an entry point of the group `cbmdhi.commands`. It names a module that holds
`COMMANDS`, a sequence of `Command`, and imports nothing heavy: the module is loaded at every start, what its
commands name only when one of them is typed. It may hold `WHY_DOWN` as well, "module:function": given the
home and a program's name, the function says why that program does not run, or None.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cbmdhi.cli import boundary
from cbmdhi.cli.exits import Failure, Status

GROUP = "cbmdhi.commands"


@dataclass(frozen=True)
class Command:
    """A command, or a group of commands.

    target  "module:name" of a function, or of a typer.Typer
    help    the first sentence of its help
    panel   under which heading `cbmdhi --help` shows it
    """

    name: str
    target: str
    help: str
    panel: str

    def load(self) -> Any:
        """The command itself. Raises Failure when it cannot be loaded."""
        try:
            found = _named(self.target)
        except Exception as error:
            raise _broken(f"`cbmdhi {self.name}`", self.target, error) from error
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
            alone.command(self.name)(found)
            found = alone
        loaded = get_command(found)
        loaded.name = self.name
        return loaded


@dataclass(frozen=True)
class Added:
    """What the other distributions add. `problems`: what cannot be loaded, one sentence each."""

    commands: tuple[Command, ...] = ()
    why_down: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def added(points: Sequence[EntryPoint] | None = None) -> Added:
    """Ask every entry point of the group, by name; a broken one is left out, and told."""
    commands: list[Command] = []
    why_down: list[str] = []
    problems: list[str] = []
    found = entry_points(group=GROUP) if points is None else points
    # They are found in the order in which a file system lists folders, which is another on each machine.
    for point in sorted(found, key=lambda point: (point.name, point.value)):
        try:
            module = point.load()
            commands += module.COMMANDS
        except Exception as error:  # noqa: BLE001 - whatever somebody else's module raises
            problems.append(_broken(f"the commands of {point.name!r}", point.value, error).reason)
            continue
        why_down += [module.WHY_DOWN] if hasattr(module, "WHY_DOWN") else []
    return Added(tuple(commands), tuple(why_down), tuple(problems))


@cache
def all_added() -> Added:
    """What is added here; asked once."""
    return added()


def is_here(name: str) -> bool:
    """True of a command that is added here: what a person may be told to type."""
    return any(command.name == name for command in all_added().commands)


def why_down() -> list[Callable[..., str | None]]:
    """Those that can say why a program does not run here."""
    return [_named(target) for target in all_added().why_down]


class Lazy(TyperCommand):
    """Stands in `cbmdhi --help` for a command that is not loaded yet."""

    def __init__(self, declared: Command) -> None:
        super().__init__(declared.name, help=declared.help, rich_help_panel=declared.panel)
        self.declared = declared

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself: from here on it is the one that counts."""
        return self.declared.load().make_context(info_name, args, parent, **extra)


class Root(TyperGroup):
    """`cbmdhi`: our commands and those added, each behind the one exception boundary."""

    own: Sequence[Command] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Ours count: nobody takes the name of one.
        for declared in (*all_added().commands, *self.own):
            self.commands.pop(declared.name, None)
            self.add_command(Lazy(declared))

    def list_commands(self, ctx: Any) -> list[str]:
        """Ours first."""
        mine = [declared.name for declared in self.own]
        return [*mine, *(name for name in self.commands if name not in mine)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command; of one that is not here it is said why, where that is known."""
        found = super().get_command(ctx, cmd_name)
        if found is None and not cmd_name.startswith("-") and (why := _why_absent()):
            raise Failure(
                "USAGE", f"there is no command {cmd_name!r} here", status=Status.MISTYPED, next_steps=why
            )
        return found

    def invoke(self, ctx: Any) -> Any:
        """As it is; what typer would end the program for comes to the boundary instead."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Failure("INTERRUPTED", "interrupted", status=Status.INTERRUPTED) from error
        except BrokenPipeError as error:
            raise _PipeClosed from error

    def main(self, args: Sequence[str] | None = None, *others: Any, **extra: Any) -> Any:
        """Run, and end the program."""
        words = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False

        def work() -> Any:
            try:
                return TyperGroup.main(self, words, *others, **extra)
            except _PipeClosed as error:
                raise BrokenPipeError from error

        boundary.run(work, words)


def _why_absent() -> list[str]:
    """Why a command may not be here; empty where all are."""
    here = all_added()
    if here.problems or here.commands:
        return list(here.problems)
    return ["`cbmdhi --help` lists those that are; what runs a network comes with a clone of the repository"]


class _PipeClosed(Exception):
    """Whoever read the output has gone; typer would end with another status."""


def _named(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _broken(what: str, target: str, error: Exception) -> Failure:
    why = f"{type(error).__name__}: {error}".splitlines()[0]
    return Failure(
        "INTERNAL",
        f"{what} cannot be loaded from {target} ({why}): install the distribution that it comes with again",
        status=Status.FAULT,
    )
