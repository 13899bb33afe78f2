"""Writes fabric_gateway/REFERENCE.md from the code: `python -m tools.packaging.reference`."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import fabric_gateway

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "fabric_gateway" / "REFERENCE.md"
_HEAD = "# Reference of `fabric_gateway`\n\nMade from the code by `python -m tools.packaging.reference`.\n"


def text() -> str:
    """The whole page: every public name under the module that it is of."""
    named = {name: getattr(fabric_gateway, name) for name in fabric_gateway.__all__}
    modules: dict[str, dict[str, Any]] = {}
    values: dict[str, Any] = {}
    for name, found in named.items():
        if inspect.isclass(found) or inspect.isfunction(found):
            modules.setdefault(found.__module__, {})[name] = found
        else:
            values[name] = found
    parts = [_HEAD]
    for module in sorted(modules):
        first = inspect.getdoc(sys.modules[module]) or ""
        parts.append(f"## {module.rpartition('.')[2]}\n\n{_prose(first)}\n")
        parts += [
            _class(name, one) if inspect.isclass(one) else _function(name, one, 3)
            for name, one in modules[module].items()
        ]
    lines = [
        f"- `{name}`" + (f" = {value}" if isinstance(value, int) else "") for name, value in values.items()
    ]
    parts.append("## Values\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _class(name: str, found: type) -> str:
    base = found.__mro__[1].__name__
    inherited = f"({base})" if base not in ("object", "Generic", "tuple") else ""
    parts = [f"### class {name}{inherited}\n\n{_prose(inspect.getdoc(found) or '')}\n"]
    if "__init__" in vars(found) and not issubclass(found, BaseException):
        parts.append(f"```text\n{name}{_signature(found)}\n```\n")
    for member, value in vars(found).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property) or hasattr(value, "func"):
            function = value.fget if isinstance(value, property) else value.func
            parts.append(f"- `{member}`: {_inline(inspect.getdoc(function))}\n")
        elif inspect.isfunction(value) or isinstance(value, classmethod):
            parts.append(_function(member, getattr(found, member), 4))
    return "\n".join(parts)


def _function(name: str, found: Any, level: int) -> str:
    kind = "async " if inspect.iscoroutinefunction(found) else ""
    shown = f"```text\n{kind}{name}{_signature(found)}\n```"
    return f"{'#' * level} {name}\n\n{shown}\n\n{_prose(inspect.getdoc(found) or '')}\n"


def _signature(found: Any) -> str:
    told = str(inspect.signature(found)).replace("fabric_gateway.", "").replace("collections.abc.", "")
    told = re.sub(r"<function (\w+) at \w+>", r"\1", told)
    return told.replace("(self, ", "(").replace("(self)", "()").replace("'", "")


def _inline(doc: str | None) -> str:
    return " ".join((doc or "").split())


def _prose(doc: str) -> str:
    """A docstring in Markdown: what is drawn or lined up in it stays as it is."""
    blocks = []
    for block in doc.split("\n\n"):
        drawn = any(line.startswith(" ") or "  " in line.strip() for line in block.splitlines())
        blocks.append(f"```text\n{block.rstrip()}\n```" if drawn else block)
    return "\n\n".join(blocks)


if __name__ == "__main__":
    FILE.write_text(text())
