"""Where a name stands in a file: Python by its syntax tree, Go and protos by their declarations.

A page names a place as `services/gateway/rpc/ingest.py:IngestService.Ingest`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from tools.docs.pages import ROOT

_PLACE = re.compile(r"(?P<file>[\w./-]+\.(?:py|go|proto)):(?P<symbol>[A-Za-z_][\w.]*)")


class NoSuchPlace(Exception):
    """There is no such file, or nothing of that name in it."""


@dataclass(frozen=True)
class Place:
    """`symbol` is a function, a class or a message; a method behind its class and a dot."""

    file: Path
    symbol: str

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """None when the text is no place."""
        found = _PLACE.fullmatch(text)
        return found and cls(ROOT / found["file"], found["symbol"])

    @property
    def line(self) -> int:
        """From 1. Raises NoSuchPlace."""
        if not self.file.is_file():
            raise NoSuchPlace(f"there is no {self.file.relative_to(ROOT)}")
        text = self.file.read_text(encoding="utf-8")
        find = _python if self.file.suffix == ".py" else _go if self.file.suffix == ".go" else _proto
        if not (line := find(text, self.symbol.split("."))):
            raise NoSuchPlace(f"{self.file.relative_to(ROOT)} has no {self.symbol}")
        return line


def _python(text: str, parts: list[str]) -> int:
    body: list[ast.stmt] = ast.parse(text).body
    line = 0
    for part in parts:
        found = [
            one
            for one in body
            if isinstance(one, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and one.name == part
        ]
        if not found:
            return 0
        line, body = found[0].lineno, found[0].body
    return line


def _go(text: str, parts: list[str]) -> int:
    name = re.escape(parts[-1])
    receiver = rf"\(\w+ \*?{re.escape(parts[0])}(?:\[.*\])?\) " if len(parts) > 1 else ""
    return _declared(
        text, rf"^(?:func {receiver}{name}[(\[]" + ("" if receiver else rf"|type {name}\b") + ")"
    )


def _proto(text: str, parts: list[str]) -> int:
    return _declared(text, rf"^\s*(?:message|enum|service|rpc) {re.escape(parts[-1])}\b")


def _declared(text: str, pattern: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 + found.group().count("\n") if found else 0
