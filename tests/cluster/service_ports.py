"""Where the programs of a cluster's organisations listen: what `Ports` says of the laptop network."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ops.devnet.topology import Ports
from ops.manifests.listeners import PEER_CHAINCODE_PORT, PORTS

_CALLED = {"operations": "ops", "metrics": "ops", "first_contact": "first-contact"}


@dataclass(frozen=True)
class ServicePorts(Ports):
    """By the names of Services, which certificates bear: a namespace is called as its organisation.

    forwarded  address of a listener that no Service has, by organisation and name: of `kubectl port-forward`
    """

    base: int = 0
    forwarded: Mapping[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def of(self, organisation: str, name: str) -> int:
        """The port of a listener, such as `peer_operations`."""
        program, _, listener = name.partition("_")
        if (program, listener) == ("peer", "chaincode"):
            return PEER_CHAINCODE_PORT
        listeners = PORTS[program]
        return listeners[_CALLED.get(listener, listener)] if listener else next(iter(listeners.values()))

    def host(self, organisation: str, name: str) -> str:
        """The name of a program's Service."""
        return f"{name.partition('_')[0]}.{organisation}"

    def address(self, organisation: str, name: str) -> str:
        """`host:port` of a listener."""
        return self.forwarded.get((organisation, name)) or super().address(organisation, name)
