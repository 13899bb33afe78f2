"""The images: named by digest, without root, and with all that their programs import."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.devnet.layout import ROOT
from ops.devnet.topology import SERVICES
from tests.cluster import images

IMAGES = ROOT / "deploy" / "images"

# Imports a module with nothing but the standard library, what lies in a folder and the named distributions.
_IMPORT_WITH = """
import importlib, importlib.metadata, importlib.abc, sys
module, lock, folder, checkout = sys.argv[1:]
sys.path[:] = [folder, *(place for place in sys.path if place not in ("", checkout))]
kept = {line.partition("==")[0].lower().replace("_", "-") for line in open(lock) if "==" in line}
owners = importlib.metadata.packages_distributions()
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        owned = {owner.lower().replace("_", "-") for owner in owners.get(top, [])}
        owned -= {"cbmdhi", "cbmdhi-ops", "cbmdhi-bench"}
        if owned and not owned & kept:
            raise ModuleNotFoundError(f"{name} ({', '.join(sorted(owned))}) is not in the image", name=name)
        return None
sys.meta_path.insert(0, Refuse())
importlib.import_module(module)
"""

PROGRAMS = (
    *(f"services.{name}.__main__" for name in SERVICES),
    *("ops.manifests.kubo_config", "ops.backup.kubernetes.take", "ops.backup.kubernetes.put"),
)
OURS = ("cbmdhi", "fabric_gateway", "services", "ops", "bench", "tests", "tools")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What of this repository lies in the image."""
    folder = tmp_path_factory.mktemp("image")
    for path in images.python_contents():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(
    "module",
    # The last is imported when a backup goes to an S3-compatible store.
    [*PROGRAMS, "boto3.session"],
)
def test_the_python_image_holds_whatever_a_program_imports(module: str, image: Path) -> None:
    ended = _import_with(module, IMAGES / "python" / "requirements.lock", image)
    assert ended.returncode == 0, ended.stderr


def test_the_python_image_holds_what_its_functions_import_later(image: Path) -> None:
    held = {_module(path.relative_to(image)) for path in image.rglob("*.py")}
    missing = {
        f"{path.relative_to(image)}: {name}"
        for path in image.rglob("*.py")
        for name in _imports(path.read_text())
        if name.partition(".")[0] in OURS and name not in held and _is_module(name)
    }
    # Of the package of users, and of the laptop network, on first use alone: no pod uses them.
    assert {line for line in missing if not line.startswith("ops/devnet/__init__.py")} == set()


def test_the_python_image_holds_no_client_and_nothing_of_the_laptop_network(image: Path) -> None:
    held = {str(path.relative_to(image)) for path in image.rglob("*.py")}
    for part in (
        "cbmdhi/client",
        "cbmdhi/cli",
        "cbmdhi/wallet.py",
        "ops/cli",
        "ops/demo",
        "ops/devnet/network.py",
    ):
        assert (ROOT / part).exists()
        assert not any(name.startswith(part) for name in held)
    assert len([name for name in held if name.startswith("ops/")]) < 25


def test_a_module_that_is_not_in_the_image_is_missed(image: Path, tmp_path: Path) -> None:
    shutil.copytree(image, tmp_path / "image")
    (tmp_path / "image" / "services" / "runtime" / "retry.py").unlink()
    ended = _import_with(
        "services.notify.__main__", IMAGES / "python" / "requirements.lock", tmp_path / "image"
    )
    assert "No module named 'services.runtime.retry'" in ended.stderr


def test_a_package_that_is_not_in_the_image_is_missed(image: Path, tmp_path: Path) -> None:
    without = tmp_path / "requirements.lock"
    lock = (IMAGES / "python" / "requirements.lock").read_text()
    without.write_text(re.sub(r"^structlog==", "other==", lock, flags=re.MULTILINE))
    assert (
        "structlog (structlog) is not in the image"
        in _import_with("services.notify.__main__", without, image).stderr
    )


def test_what_runs_is_of_the_versions_that_are_tested() -> None:
    tested = _pins(ROOT / "requirements.lock")
    assert _pins(IMAGES / "python" / "requirements.lock").items() <= tested.items()


@pytest.mark.parametrize("image", ["go", "python"])
def test_an_image_is_made_of_bases_named_by_digest_and_runs_without_root(image: str) -> None:
    lines = (IMAGES / image / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert bases
    assert all(re.fullmatch(r"\$\{[A-Z]+\}", base) for base in bases)
    assert all("=" not in line for line in lines if line.startswith("ARG "))
    assert "USER 10001:10001" in lines


def _imports(text: str) -> Iterator[str]:
    """Every module that a file names in an import, but for what only a type checker reads."""
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_module(name: str) -> bool:
    """True for a module of this repository; names inside of one are not."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _import_with(module: str, lock: Path, image: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _IMPORT_WITH, module, str(lock), str(image), str(ROOT)],
        cwd=image,
        capture_output=True,
        text=True,
        check=False,
    )


def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", lock.read_text(), re.MULTILINE))
