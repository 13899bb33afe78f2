"""`cbmdhi docs`: the reference of every command, written from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from cbmdhi.cli import exits, passphrases
from cbmdhi.cli.boundary import TRACEBACK
from cbmdhi.cli.home import DEFAULT_SHOWN
from cbmdhi.cli.lazy import Lazy

_EXAMPLES = "Examples:"
_EVERYWHERE = ("wallet", "member", "home", "as_json")
_VALUES = {"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "Path": "PATH", "datetime": "DATE"}
_HEAD = f"""# The command line

<!-- Written by `cbmdhi docs`. Change the commands, then: cbmdhi docs > docs/cli.md -->

Data goes to standard output, words to standard error. With `--json` a command prints JSON for machines, and
failures too. `NO_COLOR` takes the colours away. Nothing is asked without a terminal.

Wherever an id is asked for, its beginning will do, as `audit`, `inbox` and the lists show it, as long as only
one begins so: of what the wallet may list, and of addresses of wallets under HOME.

## How it ends

| status | meaning |
|---|---|
{{statuses}}

A failure is one sentence with a code, and lines that say what to do next. With `--json` it is on standard
output:

```json
{{{{"error": {{{{"code": "USAGE", "reason": "…", "path": "", "exit": 2, "next": ["…"]}}}}}}}}
```

`code` is one of the mesh's closed list (docs: error codes), or USAGE (mistyped), FILE (a file or folder
cannot be used), FAILED (the laptop network), INTERRUPTED, INTERNAL (a fault of this program). Where something
signed has an unknown outcome there are `outcome`, `signed`, `look` and `resend` as well.

## Environment

| variable | meaning |
|---|---|
| `CBMDHI_WALLET` | the wallet, as `--wallet` |
| `CBMDHI_HOME` | the folder of the network and of wallets, as `--home`; by default {DEFAULT_SHOWN} |
| `{passphrases.VARIABLE}` | the wallet's passphrase |
| `{passphrases.FILE_VARIABLE}` | a file whose first line is the passphrase; `/dev/fd/3` is the descriptor 3 |
| `CBMDHI_INVITATION` | the secret of an invitation, as `wallet enrol --secret` |
| `{TRACEBACK}` | when set, a fault of this program is shown whole |
| `NO_COLOR` | no colours |
"""


def docs() -> None:
    """Print the reference of every command, as Markdown.

    docs/cli.md is what this prints.

    Examples:

        cbmdhi docs

        cbmdhi docs > docs/cli.md
    """
    print(text(), end="")


def text() -> str:
    """The reference: statuses, environment, and each command with its arguments, options and examples."""
    statuses = "\n".join(f"| {int(status)} | {words} |" for status, words in exits.MEANING.items())
    parts = [_HEAD.format(statuses=statuses), "## Options of most commands\n"]
    parts += _table("option", list(_common()))
    panel = ""
    for path, command in commands():
        if command.rich_help_panel and command.rich_help_panel != panel:
            panel = command.rich_help_panel
            parts.append(f"## {panel}\n")
        parts.append(_section(path, command))
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command and group that can be typed, with its words."""
    from cbmdhi.cli.main import app

    root = get_command(app)
    for name in root.list_commands(None):  # type: ignore[attr-defined,arg-type]
        stands = root.commands[name]  # type: ignore[attr-defined]
        command = stands.declared.load() if isinstance(stands, Lazy) else stands
        command.rich_help_panel = stands.rich_help_panel
        yield from _below(f"cbmdhi {name}", command)


def examples(command: Any) -> list[str]:
    """The command lines under "Examples:" in a command's help."""
    _, found, rest = inspect.cleandoc(command.help or "").partition(_EXAMPLES)
    return [line.strip() for line in rest.splitlines() if line.strip()] if found else []


def _below(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, one in command.commands.items():
            yield from _below(f"{path} {name}", one)


def _section(path: str, command: Any) -> str:
    told = inspect.cleandoc(command.help or "").partition(_EXAMPLES)[0].strip()
    lines = [f"### `{path}`", "", _prose(told), ""]
    if isinstance(command, TyperGroup):
        return "\n".join(lines)
    arguments = [_row(one) for one in command.params if one.param_type_name == "argument"]
    options = [_row(one) for one in command.params if one.param_type_name == "option" and one.name != "help"]
    common = _common()
    lines += _table("argument", arguments)
    lines += _table("option", [row for row in options if row not in common])
    if shared := [common[row] for row in options if row in common]:
        lines += [f"And as everywhere: {', '.join(shared)}.", ""]
    return "\n".join([*lines, "```", *examples(command), "```", ""])


def _prose(told: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", told))


@cache
def _common() -> dict[str, str]:
    """Rows of the options that most commands have, by how they are named."""
    from cbmdhi.cli.main import app

    root: Any = get_command(app)
    everywhere = root.commands["list"].declared.load().params
    return {_row(one): f"`{one.opts[0]}`" for one in everywhere if one.name in _EVERYWHERE}


def _table(what: str, rows: list[str]) -> list[str]:
    return [f"| {what} | meaning |", "|---|---|", *rows, ""] if rows else []


def _row(one: Any) -> str:
    names = [*one.opts, *one.secondary_opts] if one.param_type_name == "option" else [one.name.upper()]
    value = "" if one.param_type_name == "argument" or getattr(one, "is_flag", False) else f" {_value(one)}"
    shown = ", ".join(f"`{name}{value}`" for name in names)
    notes = [note for note in (_needed(one), _range(one), _default(one), _variable(one)) if note]
    more = f" ({'; '.join(notes)})" if notes else ""
    return f"| {shown} | {(one.help or '').replace('|', '/')}{more} |"


def _value(one: Any) -> str:
    return str(one.metavar or _VALUES.get(one.bare_type(), "TEXT"))


def _needed(one: Any) -> str:
    return "required" if one.required else ""


def _range(one: Any) -> str:
    least, most = getattr(one, "min", None), getattr(one, "max", None)
    if least is None and most is None:
        return ""
    return f"from {least:,}" if most is None else f"{least:,} to {most:,}"


def _default(one: Any) -> str:
    if isinstance(one.show_default, str):
        return f"default: {one.show_default}"
    if one.required or one.default in (None, "", False) or callable(one.default):
        return ""
    return f"default: {one.default}"


def _variable(one: Any) -> str:
    return f"environment: {one.envvar}" if one.envvar else ""
