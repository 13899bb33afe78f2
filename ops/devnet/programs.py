"""All programs of the network, configured and described for the supervisor."""

from ops.devnet import collector, fabric, fabric_ca, kubo, nats, services
from ops.devnet.layout import Home
from ops.devnet.supervision import Program
from ops.devnet.topology import SERVICES, Ports


def describe(home: Home, ports: Ports) -> list[Program]:
    """Every program, in starting order."""
    described = [fabric_ca.program(home, organisation) for organisation in home.organisations]
    described += [fabric.orderer_program(home, organisation) for organisation in home.orderers]
    for organisation in home.members:
        described += [
            fabric.peer_program(home, organisation),
            fabric.chaincode_program(home, organisation, ports),
            kubo.program(home, organisation),
            nats.program(home, organisation),
        ]
        if home.traced:
            described.append(collector.program(home, organisation))
    described += [services.program(home, org, service) for service in SERVICES for org in home.members]
    return described


def configure(home: Home, ports: Ports) -> None:
    """Write every program's configuration anew: a newer checkout's templates, a moved folder take effect."""
    for organisation in home.organisations:
        fabric_ca.configure(home, organisation, ports)
    for organisation in home.orderers:
        fabric.configure_orderer(home, organisation, ports)
    for organisation in home.members:
        fabric.configure_peer(home, organisation, ports)
        nats.configure(home, organisation, ports)
        collector.configure(home, organisation, ports)
        services.configure(home, organisation, ports)
    kubo.configure(home, ports)
