"""Configuration of the ledger service; see docs/conventions.md."""

from services.runtime.config import FabricIdentity, FabricPeer, Nats, ServiceConfig


class LedgerConfig(ServiceConfig):
    """nats_monitor_url   HTTP monitor of the member's NATS server, shown as metrics; empty: not shown"""

    service_name = "ledger"

    chaincode: str
    peer: FabricPeer
    fabric_identity: FabricIdentity
    nats: Nats
    nats_monitor_url: str = ""
