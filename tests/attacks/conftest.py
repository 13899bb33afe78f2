"""One real network for all attacks, gone afterwards; `--long` runs what `make attacks` runs."""

from __future__ import annotations

import pytest

from tests.support.mesh import network, patient, people

__all__ = ["network", "patient", "people"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="minutes of each attack instead of seconds")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether an attack may take minutes."""
    return bool(request.config.getoption("--long", default=False))
