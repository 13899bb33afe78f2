"""The images: named by digest, without root, and with all that their programs import."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.devnet.layout import ROOT
from ops.devnet.topology import SERVICES

IMAGES = ROOT / "deploy" / "images"

# Imports a module with nothing but the standard library, the checkout and the named distributions.
_IMPORT_WITH = """
import importlib, importlib.metadata, importlib.abc, sys
module, lock = sys.argv[1:]
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


@pytest.mark.parametrize(
    "module",
    [
        *(f"services.{name}.__main__" for name in SERVICES),
        *("ops.manifests.kubo_config", "ops.backup.kubernetes.take", "ops.backup.kubernetes.put"),
        # Imported when a backup goes to an S3-compatible store.
        "boto3.session",
    ],
)
def test_the_python_image_holds_whatever_a_program_imports(module: str) -> None:
    ended = _import_with(module, IMAGES / "python" / "requirements.lock")
    assert ended.returncode == 0, ended.stderr


def test_a_package_that_is_not_in_the_image_is_missed(tmp_path: Path) -> None:
    without = tmp_path / "requirements.lock"
    lock = (IMAGES / "python" / "requirements.lock").read_text()
    without.write_text(re.sub(r"^structlog==", "other==", lock, flags=re.MULTILINE))
    assert (
        "structlog (structlog) is not in the image"
        in _import_with("services.notify.__main__", without).stderr
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


def _import_with(module: str, lock: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _IMPORT_WITH, module, str(lock)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", lock.read_text(), re.MULTILINE))
