"""A client of mercy's peer, with the key of mercy's ledger service."""

from contextlib import suppress
from pathlib import Path

import fabric_gateway as fabric
from ops.devnet import Network
from tests.contract.people import CHANNEL, IdentityCa, Person, batch

BOTH = ("MercyMSP", "LakesideMSP")


class Client:
    """mercy's peer, and mercy's key."""

    def __init__(self, network: Network) -> None:
        described = network.endpoints()["organisations"]["mercy"]
        folder = Path(described["services"]["ledger"]["config"]).parent / "fabric"
        self.certificate_file, self.key_file = folder / "certificate.pem", folder / "key.pem"
        self.identity, self.signer = fabric.load(
            "MercyMSP", self.certificate_file.read_bytes(), self.key_file.read_bytes()
        )
        self.peer = described["peer"]
        self.channel = fabric.open_channel(
            self.peer["address"], Path(self.peer["tls_ca_file"]).read_bytes(), self.peer["tls_server_name"]
        )
        self.gateway = fabric.Gateway(self.channel, self.identity, self.signer)
        self.network = self.gateway.network(CHANNEL)
        self.contract = self.network.contract("cbmdhi")


async def tell_the_time(client: Client) -> None:
    """As a ledger service would: none runs here."""
    with suppress(fabric.EndorseError):  # this epoch has begun already
        await client.contract.submit("tick", b"", organisations=BOTH)


def registration_of_a_stranger(network: Network) -> bytes:
    """A batch that changes something: a device nobody knows yet."""
    ca = IdentityCa.of(network, "mercy")
    person = Person(ca.channel)
    return batch(person.means(person.registration(ca)))
