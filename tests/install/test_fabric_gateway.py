"""The Fabric client is installed by itself: nothing of the mesh comes with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install.conftest import Environment

_USE = """
import importlib.metadata, importlib.util, pathlib
import fabric_gateway
for name in fabric_gateway.__all__:
    getattr(fabric_gateway, name)
assert importlib.util.find_spec("cbmdhi") is None
assert (pathlib.Path(fabric_gateway.__file__).parent / "py.typed").exists()
print(importlib.metadata.version("fabric-gateway-async"))
"""


@pytest.mark.parametrize("suffix", [".whl", ".gz"])
@pytest.mark.timeout(600)
def test_the_fabric_client_is_installed_without_anything_of_the_mesh(
    clean: Environment, distributions: list[Path], suffix: str
) -> None:
    [path] = [
        one for one in distributions if one.name.startswith("fabric_gateway_async-") and one.suffix == suffix
    ]

    clean.done("pip", "install", path, timeout=400)

    version = clean.done("python", "-c", _USE).strip()
    assert path.name.startswith(f"fabric_gateway_async-{version}")
    clean.done("pip", "check")
