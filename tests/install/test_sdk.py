"""`pip install` of the SDK in a clean environment: of a clone, a wheel, a source distribution."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.install.conftest import INTERPRETERS, OLDEST, Environment

MOST_DEPENDENCIES = 12

_IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import cbmdhi
for module in pkgutil.walk_packages(cbmdhi.__path__, "cbmdhi."):
    importlib.import_module(module.name)
for package in ("command", "gateway", "identity", "ledger", "notify", "storage"):
    importlib.import_module(f"cbmdhi.{package}.v1")
    found = importlib.import_module(f"cbmdhi.{package}.v1").__path__
    for module in pkgutil.iter_modules(found, f"cbmdhi.{package}.v1."):
        importlib.import_module(module.name)
others = {"services", "ops", "bench", "fabric_gateway", "tools", "tests"}
assert not others & {name.partition(".")[0] for name in sys.modules}
from cbmdhi import Client, Wallet
print(cbmdhi.__file__)
print(cbmdhi.__version__)
"""

_SAY = """
import importlib.metadata as metadata
found = metadata.distribution("cbmdhi")
print(found.version)
print("\\n".join(found.requires or []))
"""


@pytest.mark.parametrize("source", ["clone", "wheel", "sdist"])
@pytest.mark.timeout(600)
def test_the_sdk_is_installed_and_works_where_there_is_nothing_else(
    clean: Environment, sources: dict[str, Path], source: str
) -> None:
    clean.done("pip", "install", f"{sources[source]}[cli]", timeout=400)

    place, version = clean.done("python", "-c", _IMPORT_EVERYTHING).split()
    assert Path(place).is_relative_to(clean.python.parents[1])
    assert clean.done("cbmdhi", "--version").strip() == version
    shown = clean.done("cbmdhi", "--help")
    assert re.search(r"\bput\b.*signed here", shown)
    assert "wallet" in shown
    assert "hammer" not in shown
    assert "cannot be loaded" not in shown
    made = clean.folder / "wallets" / "anna"
    told = clean.run("cbmdhi", "wallet", "show", "-w", made)
    assert told.returncode != 0
    assert "Traceback" not in told.stderr
    clean.done("pip", "check")
    package = Path(place).parent
    assert (package / "py.typed").exists()
    assert len(list(package.rglob("*_pb2.pyi"))) == len(list(package.rglob("*_pb2.py"))) > 0
    # Whatever it was built from, it is the same.
    assert _modules(package) == _modules_of_wheel(sources["wheel"])


@pytest.mark.timeout(600)
def test_without_the_command_line_it_is_an_sdk_of_few_dependencies(
    clean: Environment, sources: dict[str, Path]
) -> None:
    clean.done("pip", "install", sources["wheel"])

    clean.done("python", "-c", "from cbmdhi import Client, Wallet; import cbmdhi.client.rest, cbmdhi.verify")
    assert clean.run("python", "-c", "import typer").returncode != 0
    told = clean.run("cbmdhi", "--help")
    assert told.returncode == 1
    assert told.stderr == "The command line needs more than the SDK: pip install 'cbmdhi[cli]'\n"
    version, *requires = clean.done("python", "-c", _SAY).splitlines()
    direct = [line for line in requires if "extra ==" not in line]
    assert 0 < len(direct) <= MOST_DEPENDENCIES, direct
    assert version


def test_the_oldest_python_that_is_supported_is_here() -> None:
    assert OLDEST in INTERPRETERS


def _modules(package: Path) -> dict[str, bytes]:
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {str(path.relative_to(package.parent)): path.read_bytes() for path in files}


def _modules_of_wheel(wheel: Path) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("cbmdhi/")}
