"""Configuration of the ledger service; see docs/conventions.md."""

from services.runtime.config import Address, Nats, Pair, RootsFile, Section, ServiceConfig


class Peer(Section):
    """The member's own Fabric peer. `tls_server_name`: when its certificate has another name."""

    address: Address
    tls_ca_file: RootsFile
    tls_server_name: str = ""


class FabricIdentity(Pair):
    """The identity that creates transactions: of the member's own MSP, enrolled by its Fabric CA."""


class LedgerConfig(ServiceConfig):
    """nats_monitor_url   HTTP monitor of the member's NATS server, shown as metrics; empty: not shown"""

    service_name = "ledger"

    chaincode: str
    peer: Peer
    fabric_identity: FabricIdentity
    nats: Nats
    nats_monitor_url: str = ""
