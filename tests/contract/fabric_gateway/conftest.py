"""The Fabric client and something to submit."""

from collections.abc import AsyncIterator

import pytest

from ops.devnet import Network
from tests.contract.fabric_gateway.peer import Client, registration_of_a_stranger, tell_the_time


@pytest.fixture
async def client(network: Network) -> AsyncIterator[Client]:
    client = Client(network)
    await tell_the_time(client)
    yield client
    await client.channel.close()


@pytest.fixture
def registration(network: Network) -> bytes:
    """A batch that changes something."""
    return registration_of_a_stranger(network)
