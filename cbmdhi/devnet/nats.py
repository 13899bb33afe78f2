"""NATS of each member: JetStream that acknowledges what is on disk, TLS with client certificates."""

from cbmdhi.devnet.layout import Home, tool
from cbmdhi.devnet.supervision import Program
from cbmdhi.devnet.templates import fill, write
from cbmdhi.devnet.topology import Ports, program_name

# A heap of some 20 MB: to collect it more often costs nothing that was measured, and it stays that small.
TUNING = {"GOGC": "50"}


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


def configure(home: Home, organisation: str, ports: Ports) -> None:
    """Write nats.conf."""
    folder = home.organisation(organisation).nats
    write(
        folder / "nats.conf",
        fill(
            "nats/nats.conf",
            server_name=program_name(organisation, "nats"),
            address=ports.address(organisation, "nats"),
            monitor_address=ports.address(organisation, "nats_monitor"),
            store_directory=folder,
            tls_certificate=folder / "tls" / "server.crt",
            tls_key=folder / "tls" / "server.key",
            tls_ca=folder / "tls" / "ca.crt",
        ),
    )
