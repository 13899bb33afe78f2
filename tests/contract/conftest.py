"""One laptop network for all contract tests: everything real, on ports of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.devnet import Network
from tests.contract.people import Administrators


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Fabric, Fabric CA, Kubo and NATS of both members; a test starts the services that it needs.

    A test that stops a program starts it again.
    """
    # Not under pytest's own folder: the paths of Unix sockets are short.
    home = Path(tempfile.mkdtemp(prefix="cbmdhi-contract-"))
    network = Network(home / "net")
    try:
        network.up(services=False)
        yield network
    finally:
        network.down()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def administrators(network: Network) -> Administrators:
    """Who reviews registrations on that network."""
    return Administrators(network)
