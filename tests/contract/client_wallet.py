"""The SDK's client of somebody whom a played member knows."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.client import Client
from cbmdhi.protocol.consortium import Consortium, GatewayAddresses
from cbmdhi.protocol.consortium import Member as Pinned
from cbmdhi.wallet import Wallet
from tests.contract.gateway_member import Member
from tests.support.channel import CHANNEL
from tests.support.fakes.gateway_people import Person


def client_of(person: Person, member: Member, folder: Path, deadline_seconds: float = 30.0) -> Client:
    """Enrolled by the member's CA; speaks to its gateway."""
    config = member.config
    addresses = GatewayAddresses(
        config.listen_address, config.first_contact_address, f"https://{config.rest_address}"
    )
    tls, ca = member.tls_root.decode(), member.identity_ca.ca_file.read_text()
    mercy = Pinned("MercyMSP", "mercy", ca, tls, b"", addresses)
    consortium = Consortium(CHANNEL.name, CHANNEL.genesis_sha256, "cbmdhi", {"MercyMSP": mercy}, ())
    certificate = member.identity_ca.issue(person).public_bytes(Encoding.PEM).decode()
    wallet = Wallet(folder, "MercyMSP", person.role, person.key, person.hpke_keys[0], consortium, certificate)
    return Client(wallet, deadline_seconds=deadline_seconds)
