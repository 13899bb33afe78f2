"""The commands that a person is told to type: found in what was printed, parsed by the program itself."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import Result

from cbmdhi.cli.main import app

# At the end of a line, or within backticks; what is set in the environment may stand before.
_IN_BACKTICKS = re.compile(r"`([^`]+)`")
_TO_THE_END = re.compile(r"(?:^|\s)((?:[A-Z_]+=\S+ )?(?:\S*/)?cbmdhi [a-z].*)$")
_ENVIRONMENT = re.compile(r"[A-Z_]+=\S+")
_MADE = re.compile(r"make (up|down|clean|status|doctor)")


def commands_in(text: str) -> list[str]:
    """Every command line that the text tells a person to type."""
    if (texts := _of_machines(text)) is not None:
        return [command for one in texts for command in commands_in(one)]
    found: list[str] = []
    for line in text.splitlines():
        found += [one for one in _IN_BACKTICKS.findall(line) if _is_ours(one)]
        found += _TO_THE_END.findall(_IN_BACKTICKS.sub("", line))
    return found


def check(told: Result) -> None:
    """Parse every command that was printed. Fails for one that could not be typed as it stands."""
    for one in (*commands_in(told.stdout), *commands_in(told.stderr)):
        if not _MADE.fullmatch(one):
            parse(one)


def parse(typed: str) -> Any:
    """Parse a command line as the program would, up to the command itself; gives its context."""
    words = shlex.split(typed)
    while _ENVIRONMENT.fullmatch(words[0]):
        del words[0]
    assert words[0].rsplit("/", 1)[-1] == "cbmdhi", typed
    command: Any = get_command(app)
    context = command.make_context("cbmdhi", words[1:])
    while isinstance(command, TyperGroup):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        # Of the wallet and the home that it names nothing need be there.
        context = command.make_context(name, rest, parent=context)
        command = context.command
    return context


def _of_machines(text: str) -> list[str] | None:
    """Every text within a JSON document; None for anything else."""
    if text[:1] not in ("{", "["):
        return None
    texts: list[str] = []
    with suppress(ValueError):
        json.loads(text, object_hook=lambda pairs: texts.extend(_texts(list(pairs.values()))))
        return texts
    return None


def _texts(values: list[Any]) -> list[str]:
    found: list[str] = []
    for one in values:
        found += [one] if isinstance(one, str) else _texts(one) if isinstance(one, list) else []
    return found


def _is_ours(quoted: str) -> bool:
    first = [word for word in quoted.split() if not _ENVIRONMENT.fullmatch(word)][:1]
    return bool(first) and (first[0].rsplit("/", 1)[-1] == "cbmdhi" or _MADE.fullmatch(quoted) is not None)
