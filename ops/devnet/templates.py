"""Fills the templates of deploy/devnet. Values are quoted, so that a path may hold spaces or colons."""

import json
import os
from pathlib import Path
from string import Template
from typing import Any

TEMPLATES = Path(__file__).resolve().parents[2] / "deploy" / "devnet"


class Raw(str):
    """A value that is put in as it is."""

    __slots__ = ()


def fill(template: str, **values: str | int | Path) -> str:
    """The text of a template with its values. Strings are written as JSON, which YAML and NATS read too.

    Raises:
        KeyError: the template names a value that is not given.
    """
    quoted = {
        name: str(value) if isinstance(value, Raw | int) else json.dumps(str(value))
        for name, value in values.items()
    }
    return Template((TEMPLATES / template).read_text()).substitute(quoted)


def settle(document: dict[str, Any], settings: dict[str, Any]) -> None:
    """Put settings over a configuration, section by section."""
    for name, value in settings.items():
        if isinstance(value, dict) and value and isinstance(document.get(name), dict):
            settle(document[name], value)
        else:
            document[name] = value


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file in one step (a reader sees the old or the new one), never more open than `mode`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)


def write_secret(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner may read."""
    write(path, content, 0o600)
