"""No program of ours is led away by what it asks: a redirect is an answer, and not another place to ask."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
METHODS = {"request", "get", "post", "put", "patch", "delete", "head", "options"}


def _http_calls(path: Path) -> Iterator[ast.Call]:
    """Calls of an aiohttp session, which have such a name in every file that imports it."""
    text = path.read_text()
    if "import aiohttp" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        whose = ast.unparse(node.func.value).lower()
        if node.func.attr in METHODS and ("session" in whose or "http" in whose):
            yield node


@pytest.mark.parametrize("house", ["cbmdhi", "services", "ops"])
def test_no_http_client_follows_a_redirect(house: str) -> None:
    calls = [(path, call) for path in (ROOT / house).rglob("*.py") for call in _http_calls(path)]
    assert calls
    following = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path, call in calls
        if "allow_redirects=False" not in (ast.unparse(keyword) for keyword in call.keywords)
    ]
    assert not following
