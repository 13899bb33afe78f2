"""NATS of each member: JetStream that acknowledges what is on disk, TLS with client certificates."""

import json
from typing import Any

from ops.devnet.fabric_ca import TLS_ORGANISATION
from ops.devnet.layout import Home, tool
from ops.devnet.supervision import Program
from ops.devnet.templates import Raw, fill, write
from ops.devnet.topology import Ports, program_name

# A heap of some 20 MB: to collect it more often costs nothing that was measured, and it stays that small.
TUNING = {"GOGC": "50"}

# What a service may do beside hearing the answers to what it asks. A service that is not here is not let in.
_MAY_PUBLISH = {
    # Makes the stream of its events and publishes to it. Whoever holds its key cannot purge or remove it.
    "ledger": (
        "cbmdhi.ledger.>",
        "$JS.API.STREAM.INFO.CBMDHI_LEDGER",
        "$JS.API.STREAM.CREATE.CBMDHI_LEDGER",
    ),
    # Reads that stream.
    "notify": (
        "$JS.API.STREAM.INFO.CBMDHI_LEDGER",
        "$JS.API.CONSUMER.INFO.CBMDHI_LEDGER.>",
        "$JS.API.CONSUMER.CREATE.CBMDHI_LEDGER.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.CBMDHI_LEDGER.>",
        "$JS.API.CONSUMER.MSG.NEXT.CBMDHI_LEDGER.>",
        "$JS.ACK.CBMDHI_LEDGER.>",
    ),
    # Keeps what its replicas share, in a key-value bucket of its own.
    "gateway": (
        "$KV.gateway.>",
        "$JS.API.STREAM.INFO.KV_gateway",
        "$JS.API.STREAM.CREATE.KV_gateway",
        "$JS.API.STREAM.MSG.GET.KV_gateway",
        "$JS.API.DIRECT.GET.KV_gateway.>",
    ),
}


def program(home: Home, organisation: str) -> Program:
    """The server of a member."""
    folder = home.organisation(organisation).nats
    return Program(
        name=program_name(organisation, "nats"),
        argv=[tool("nats-server"), "--config", folder / "nats.conf"],
        directory=folder,
        env=TUNING,
        stop_seconds=10,
    )


def users() -> Raw:
    """Who is let in, by the whole subject of the certificate: as cert-manager issues it, and as a Fabric CA
    does, which adds its unit. The operator's, which no service has, may do everything."""
    found: list[dict[str, Any]] = []
    for ending in ("", f",OU=client,O={TLS_ORGANISATION}"):
        for service, subjects in _MAY_PUBLISH.items():
            permissions = {"publish": list(subjects), "subscribe": [f"_INBOX.{service}.>"]}
            found.append({"user": f"CN={service}{ending}", "permissions": permissions})
        found.append({"user": f"CN=admin{ending}"})
    return Raw(json.dumps(found, indent=2))


def configure(home: Home, organisation: str, ports: Ports) -> None:
    """Write nats.conf."""
    folder = home.organisation(organisation).nats
    write(
        folder / "nats.conf",
        fill(
            "nats/nats.conf",
            server_name=program_name(organisation, "nats"),
            users=users(),
            address=ports.address(organisation, "nats"),
            monitor_address=ports.address(organisation, "nats_monitor"),
            store_directory=folder,
            tls_certificate=folder / "tls" / "server.crt",
            tls_key=folder / "tls" / "server.key",
            tls_ca=folder / "tls" / "ca.crt",
        ),
    )
