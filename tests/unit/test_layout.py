"""Which house may import which: docs/architecture.md draws it, this keeps it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSES = ("cbmdhi", "fabric_gateway", "services", "ops", "bench", "tools", "tests")
# Each house, and the houses that it may import from beside itself.
ALLOWED = {
    "cbmdhi": set[str](),
    "fabric_gateway": set[str](),
    "services": {"cbmdhi", "fabric_gateway"},
    "ops": {"cbmdhi", "fabric_gateway", "services"},
    "bench": {"cbmdhi", "fabric_gateway", "services", "ops"},
    # The pages are made from the code.
    "tools": {"cbmdhi", "fabric_gateway", "services", "ops"},
    "tests": {"cbmdhi", "fabric_gateway", "services", "ops", "bench", "tools"},
}
# Of services/runtime, what a domain may use: it does no input or output either.
PURE_IN_RUNTIME = {"refusal", "used_once", "unavailable"}
SERVICES = ("identity", "ledger", "storage", "gateway", "notify")


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _sources(folder: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if "_pb2" not in path.name:
            yield path


def _against(folder: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources(folder)
        for name in _imports(path)
        if any(name == each or name.startswith(f"{each}.") for each in forbidden)
    ]


@pytest.mark.parametrize("house", HOUSES)
def test_a_house_imports_only_what_is_below_it(house: str) -> None:
    assert not _against(house, tuple(set(HOUSES) - ALLOWED[house] - {house}))


def test_the_build_needs_nothing_that_it_builds() -> None:
    assert not _against("tools/build", tuple(house for house in HOUSES if house != "tools"))


def test_every_folder_with_python_is_a_house() -> None:
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {
        path.name for path in ROOT.iterdir() if path.is_dir() and path.name in HOUSES
    }
    assert found == set(HOUSES)


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_imports_another(service: str) -> None:
    others = tuple(f"services.{other}" for other in SERVICES if other != service)
    assert not _against(f"services/{service}", others)


def test_the_runtime_knows_no_service() -> None:
    assert not _against("services/runtime", tuple(f"services.{name}" for name in SERVICES))


@pytest.mark.parametrize(
    "service", [name for name in SERVICES if (ROOT / "services" / name / "domain").is_dir()]
)
def test_a_domain_does_no_input_or_output(service: str) -> None:
    loud = ("grpc", "aiohttp", "nats", "sqlite3", "asyncio", "fabric_gateway", f"services.{service}.service")
    runtime = tuple(
        f"services.runtime.{path.stem}"
        for path in _sources("services/runtime")
        if path.stem not in PURE_IN_RUNTIME and path.stem != "__init__"
    )
    assert not _against(f"services/{service}/domain", loud + runtime)


def test_the_protocol_is_pure_and_knows_nobody() -> None:
    above = (
        "cbmdhi.client",
        "cbmdhi.cli",
        "cbmdhi.wallet",
        "cbmdhi.errors",
        "cbmdhi.verify",
        "grpc",
        "aiohttp",
        "asyncio",
    )
    assert not _against("cbmdhi/protocol", above)
