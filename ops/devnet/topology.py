"""Who is in the laptop network: organisations, their programs and what each of them listens on."""

from collections.abc import Sequence
from dataclasses import dataclass

CHANNEL = "cbmdhi"
CHAINCODE = "cbmdhi"
ORDERING = "ordering"
# Whom a network can have as members, and who they are unless more are asked for (`cbmdhi up --members 3`).
POSSIBLE_MEMBERS = ("mercy", "lakeside", "northgate")
MEMBERS = POSSIBLE_MEMBERS[:2]
# In the order in which they come to depend on one another.
SERVICES = ("ledger", "notify", "storage", "identity", "gateway")

ORDERER = "orderer"
INFRASTRUCTURE_OF_MEMBER = ("ca", "peer", "chaincode", "ipfs", "nats")
INFRASTRUCTURE_OF_ORDERING = ("ca", ORDERER)
# Runs in a network that is traced (`cbmdhi up --traced`).
COLLECTOR = "otelcol"

_PORTS_OF_ORDERER = (ORDERER, f"{ORDERER}_admin", f"{ORDERER}_operations")
_PORTS_OF_ANY = ("ca", "ca_operations", *_PORTS_OF_ORDERER)
_PORTS_OF_MEMBER = (
    *_PORTS_OF_ANY,
    *("peer", "peer_chaincode", "peer_operations"),
    "chaincode",
    *("ipfs_swarm", "ipfs_rpc"),
    *("nats", "nats_monitor"),
    *(name for service in SERVICES for name in (service, f"{service}_metrics")),
    *("gateway_first_contact", "gateway_rest"),
    COLLECTOR,
)
_STRIDE = 30
# The ordering organisation's ports lead: they stay where they are, however many members there are.
_ORDERING_PORTS = 10
BLOCK = _ORDERING_PORTS + _STRIDE * len(POSSIBLE_MEMBERS)


def msp_id(organisation: str) -> str:
    """`mercy` → `MercyMSP`."""
    return f"{organisation.capitalize()}MSP"


def organisations(members: Sequence[str] = MEMBERS) -> tuple[str, ...]:
    """The members and the ordering organisation."""
    return (*members, ORDERING)


def orderers(members: Sequence[str] = MEMBERS) -> tuple[str, ...]:
    """The organisations that run an orderer: three, so that any one of them may be away and the others still
    agree on the order."""
    return (ORDERING, *members[:2])


ORGANISATIONS = organisations()


def programs_of(organisation: str, members: Sequence[str] = MEMBERS) -> tuple[str, ...]:
    """Names of the programs of an organisation, without its prefix, in starting order."""
    if organisation == ORDERING:
        return INFRASTRUCTURE_OF_ORDERING
    orderer = (ORDERER,) if organisation in orderers(members) else ()
    return (*INFRASTRUCTURE_OF_MEMBER, *orderer, *SERVICES)


def program_name(organisation: str, program: str) -> str:
    """`mercy`, `peer` → `mercy-peer`."""
    return f"{organisation}-{program}"


def all_programs(members: Sequence[str] = MEMBERS) -> list[str]:
    """Names of all programs under supervision."""
    return [
        program_name(organisation, program)
        for organisation in organisations(members)
        for program in programs_of(organisation, members)
    ]


def collectors(members: Sequence[str] = MEMBERS) -> list[str]:
    """Names of the programs that run beside these in a network that is traced."""
    return [program_name(member, COLLECTOR) for member in members]


def split_program(name: str) -> tuple[str, str]:
    """`mercy-peer` → (`mercy`, `peer`). Raises KeyError when there is no such program."""
    known = all_programs(POSSIBLE_MEMBERS)
    if name not in known and name not in collectors(POSSIBLE_MEMBERS):
        raise KeyError(f"no program {name!r}; there are: {', '.join(known)}")
    organisation, _, program = name.partition("-")
    return organisation, program


@dataclass(frozen=True)
class Ports:
    """What every program listens on: one block of ports from `base`, all on 127.0.0.1."""

    base: int
    members: tuple[str, ...] = MEMBERS

    def of(self, organisation: str, name: str) -> int:
        """The port of an organisation's listener, such as `peer_operations`."""
        if organisation == ORDERING:
            return self.base + _PORTS_OF_ANY.index(name)
        first = self.base + _ORDERING_PORTS + _STRIDE * POSSIBLE_MEMBERS.index(organisation)
        return first + _PORTS_OF_MEMBER.index(name)

    def host(self, organisation: str, name: str) -> str:
        """Where a listener is, as others call it: here on loopback, whoever it belongs to."""
        return "127.0.0.1"

    def address(self, organisation: str, name: str) -> str:
        """`host:port` of a listener."""
        return f"{self.host(organisation, name)}:{self.of(organisation, name)}"

    def all(self) -> dict[int, str]:
        """Every port in use, with the program that listens on it."""
        listeners: dict[int, str] = {}
        for organisation in organisations(self.members):
            programs = (*programs_of(organisation, self.members), COLLECTOR)
            for name in _PORTS_OF_ANY if organisation == ORDERING else _PORTS_OF_MEMBER:
                program = name.partition("_")[0]
                if program in programs:
                    listeners[self.of(organisation, name)] = program_name(organisation, program)
        return listeners
