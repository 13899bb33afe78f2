"""Who is in the laptop network: organisations, their programs and what each of them listens on."""

from dataclasses import dataclass

CHANNEL = "cbmdhi"
CHAINCODE = "cbmdhi"
MEMBERS = ("mercy", "lakeside")
ORDERING = "ordering"
ORGANISATIONS = (*MEMBERS, ORDERING)
# In the order in which they come to depend on one another.
SERVICES = ("ledger", "notify", "storage", "identity", "gateway")

INFRASTRUCTURE_OF_MEMBER = ("ca", "peer", "chaincode", "ipfs", "nats")
INFRASTRUCTURE_OF_ORDERING = ("ca", "orderer")
# Runs in a network that is traced (`cbmdhi up --traced`).
COLLECTOR = "otelcol"

_PORTS_OF_MEMBER = (
    *("ca", "ca_operations"),
    *("peer", "peer_chaincode", "peer_operations"),
    "chaincode",
    *("ipfs_swarm", "ipfs_rpc"),
    *("nats", "nats_monitor"),
    *(name for service in SERVICES for name in (service, f"{service}_metrics")),
    *("gateway_first_contact", "gateway_rest"),
    COLLECTOR,
)
_PORTS_OF_ORDERING = ("ca", "ca_operations", "orderer", "orderer_admin", "orderer_operations")
_STRIDE = 25
BLOCK = _STRIDE * len(MEMBERS) + len(_PORTS_OF_ORDERING)


def msp_id(organisation: str) -> str:
    """`mercy` → `MercyMSP`."""
    return f"{organisation.capitalize()}MSP"


def programs_of(organisation: str) -> tuple[str, ...]:
    """Names of the programs of an organisation, without its prefix, in starting order."""
    if organisation == ORDERING:
        return INFRASTRUCTURE_OF_ORDERING
    return (*INFRASTRUCTURE_OF_MEMBER, *SERVICES)


def program_name(organisation: str, program: str) -> str:
    """`mercy`, `peer` → `mercy-peer`."""
    return f"{organisation}-{program}"


def all_programs() -> list[str]:
    """Names of all programs under supervision."""
    return [program_name(org, program) for org in ORGANISATIONS for program in programs_of(org)]


def collectors() -> list[str]:
    """Names of the programs that run beside these in a network that is traced."""
    return [program_name(org, COLLECTOR) for org in MEMBERS]


def split_program(name: str) -> tuple[str, str]:
    """`mercy-peer` → (`mercy`, `peer`). Raises KeyError when there is no such program."""
    if name not in all_programs() and name not in collectors():
        raise KeyError(f"no program {name!r}; there are: {', '.join(all_programs())}")
    organisation, _, program = name.partition("-")
    return organisation, program


@dataclass(frozen=True)
class Ports:
    """What every program listens on: one block of ports from `base`, all on 127.0.0.1."""

    base: int

    def of(self, organisation: str, name: str) -> int:
        """The port of an organisation's listener, such as `peer_operations`."""
        if organisation == ORDERING:
            return self.base + _STRIDE * len(MEMBERS) + _PORTS_OF_ORDERING.index(name)
        return self.base + _STRIDE * MEMBERS.index(organisation) + _PORTS_OF_MEMBER.index(name)

    def host(self, organisation: str, name: str) -> str:
        """Where a listener is, as others call it: here on loopback, whoever it belongs to."""
        return "127.0.0.1"

    def address(self, organisation: str, name: str) -> str:
        """`host:port` of a listener."""
        return f"{self.host(organisation, name)}:{self.of(organisation, name)}"

    def all(self) -> dict[int, str]:
        """Every port in use, with the program that listens on it."""
        listeners: dict[int, str] = {}
        for organisation in ORGANISATIONS:
            names = _PORTS_OF_ORDERING if organisation == ORDERING else _PORTS_OF_MEMBER
            for name in names:
                listeners[self.of(organisation, name)] = program_name(organisation, name.partition("_")[0])
        return listeners
