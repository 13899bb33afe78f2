"""Every setting of every service, from `services/<name>/config.py`: type, default, bounds, what it is for."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.runtime.config import ServiceConfig
from tools.docs.pages import slug

SERVICES = ("gateway", "identity", "ledger", "notify", "storage")
_SAID = re.compile(r"(?P<names>[a-z][a-z0-9_]*(?:, [a-z][a-z0-9_]*)*)(?:\s{2,}|$)(?P<text>.*)")
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "at least"}
_PAGE = """# Configuration

A service reads the TOML file that `--config` names. An environment variable goes before the file:
`CBMDHI_<SERVICE>_<FIELD>`, and inside a section `CBMDHI_<SERVICE>_<SECTION>__<FIELD>`. An unknown key is an
error; so is a value outside its bounds, and the service says which one and ends. Which files are named,
and what services tell one another: [conventions](../conventions.md#services).

This page is made from the code by `make docs`.
"""


def page() -> str:
    """The page, in Markdown."""
    parts = [_PAGE]
    sections: dict[str, type[BaseModel]] = {}
    parts.append(f"## Every service\n\n{_table(ServiceConfig, sections)}")
    for name in SERVICES:
        module = importlib.import_module(f"services.{name}.config")
        config: type[BaseModel] = getattr(module, f"{name.capitalize()}Config")
        parts.append(f"## {name}\n\n{_table(config, sections, without=ServiceConfig.model_fields)}")
    parts.append("## Sections\n")
    done: set[str] = set()
    while waiting := sorted(set(sections) - done):
        for name in waiting:
            done.add(name)
            told = inspect.cleandoc(sections[name].__doc__ or "")
            first = "" if _SAID.match(told) else told.split("\n\n")[0].replace("\n", " ")
            parts.append(f"### {name}\n\n{first}\n\n{_table(sections[name], sections)}")
    return "\n\n".join(parts) + "\n"


def said(config: type[BaseModel]) -> dict[str, str]:
    """What a class and its bases say of each field: in a table of the docstring, or below the field."""
    texts: dict[str, str] = {}
    for one in reversed(config.__mro__):
        if issubclass(one, BaseModel) and one.__module__.startswith("services."):
            texts |= dict(_in_docstring(one.__dict__.get("__doc__") or "")) | dict(_below_fields(one))
    return {name: text for name, text in texts.items() if name in config.model_fields}


def _in_docstring(text: str) -> Iterator[tuple[str, str]]:
    names: list[str] = []
    told = ""
    for line in [*inspect.cleandoc(text).splitlines(), ""]:
        found = _SAID.fullmatch(line)
        if found and (found["text"] or "_" in found["names"]):
            yield from ((name, told) for name in names)
            names, told = found["names"].split(", "), found["text"]
        elif names and line.startswith("  "):
            told += f" {line.strip()}"
        else:
            yield from ((name, told) for name in names)
            names = []


def _below_fields(config: type[BaseModel]) -> Iterator[tuple[str, str]]:
    parsed = ast.parse(textwrap.dedent(inspect.getsource(config)))
    [body] = [made.body for made in parsed.body if isinstance(made, ast.ClassDef)]
    for field, below in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            yield field.target.id, " ".join(below.value.value.split())


def _table(
    config: type[BaseModel], sections: dict[str, type[BaseModel]], without: Collection[str] = ()
) -> str:
    texts = said(config)
    rows = ["| field | type | default | what |", "|---|---|---|---|"]
    for name, field in config.model_fields.items():
        if name in without:
            continue
        what = _cell(texts.get(name, ""))
        rows.append(f"| `{name}` | {_type(field.annotation, sections)} | {_default(field)} | {what} |")
    return "\n".join(rows)


def _type(annotation: Any, sections: dict[str, type[BaseModel]]) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], sections)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(one, sections) for one in arguments if one is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin in (tuple, list):
        return f"list of {_type(arguments[0], sections)}"
    if origin is dict:
        return f"table of {_type(arguments[1], sections)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        service = annotation.__module__.split(".")[1]
        name = annotation.__name__ + ("" if service == "runtime" else f" of {service}")
        sections[name] = annotation
        return f"[{annotation.__name__}](#{slug(name)})"
    return {"str": "text", "int": "number", "float": "number", "bool": "true or false", "bytes": "hex"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)).lower()
    )


def _default(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {value:,}" if isinstance(value := getattr(one, key), int | float) else ""
        for one in field.metadata
        for key, sign in _SIGNS.items()
        if getattr(one, key, None) is not None
    ]
    bounded = f" ({', '.join(filter(None, bounds))})" if any(bounds) else ""
    if field.is_required():
        return f"**required**{bounded}"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return bounded.strip()
    if isinstance(default, BaseModel):
        return "its own"
    shown = "true" if default is True else "false" if default is False else str(default)
    empty = default is None or default in ((), "", [], {})
    return ("empty" if empty else f"`{_cell(shown)}`") + bounded


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
