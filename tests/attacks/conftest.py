"""One real network for all attacks, gone afterwards; `--long` runs what `make attacks` runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ops.devnet import Network
from tests.support import mesh
from tests.support.mesh import patient, people
from tests.support.rogue import RogueGateway

__all__ = ["patient", "people"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="minutes of each attack instead of seconds")
    parser.addoption("--figures", type=Path, help="folder for what an attack measured, as JSON")


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether an attack may take minutes."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Path | None:
    """Where to write what was measured; None: nowhere."""
    return request.config.getoption("--figures", default=None)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    # As a member runs it: a span for each record would be most of the overload.
    with mesh.running(tmp_path_factory.mktemp("mesh"), traced=False) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rogue(network: Network) -> AsyncIterator[RogueGateway]:
    """Mercy's gateway, broken into. The real one goes on beside it."""
    async with RogueGateway(network) as rogue:
        yield rogue
