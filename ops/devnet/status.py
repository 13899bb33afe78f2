"""The network at a glance: programs, channel, projections, Kubo and NATS. Green or not, and why."""

import json
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ops.devnet import health
from ops.devnet.errors import NotReady
from ops.devnet.layout import Organisation
from ops.devnet.network import Network
from ops.devnet.supervision import ProgramState
from ops.devnet.topology import CHANNEL, Ports, msp_id, split_program

STREAM = "CBMDHI_LEDGER"
# Blocks that a projection or the publication of events may be behind for a moment.
_LAG_BLOCKS = 20


@dataclass(frozen=True)
class ProgramStatus:
    """A program: what the supervisor says of it, and what it answers itself."""

    name: str
    state: str
    pid: int
    uptime_seconds: int
    address: str
    healthy: bool
    reason: str


@dataclass(frozen=True)
class MemberStatus:
    """What a member's peer, ledger, Kubo and NATS report; None where they do not answer."""

    name: str
    msp_id: str
    channel_height: int | None
    projected_height: int | None
    projection_lag_blocks: int | None
    publication_lag_blocks: int | None
    ipfs_peers: int | None
    stream_messages: int | None
    stream_consumers: int | None


@dataclass(frozen=True)
class NetworkStatus:
    """`problems`: why it is not green, one sentence each; empty when it is."""

    home: str
    running: bool
    orderer_height: int | None = None
    programs: Sequence[ProgramStatus] = ()
    members: Sequence[MemberStatus] = ()
    problems: Sequence[str] = field(default=())

    @property
    def green(self) -> bool:
        """Everything runs, answers, and keeps up."""
        return self.running and not self.problems

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {**asdict(self), "green": self.green}


def of(network: Network) -> NetworkStatus:
    """Ask everything, all at once; at most a few seconds."""
    home, up = str(network.home), network.files.command("up")
    if not network.exists():
        return NetworkStatus(home, False, problems=[f"There is no network at {home}. Run: {up}"])
    at = network.ports()
    try:
        states = network.supervisor.states()
    except NotReady:
        return NetworkStatus(home, False, problems=[f"The network is down. Run: {up}"])
    names = network.programs()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(_program, name, states.get(name), at) for name in names]
        members_asked = [
            pool.submit(_member, network.files.organisation(name), at) for name in network.files.members
        ]
        orderers = [
            pool.submit(
                _gauge,
                at.address(org, "orderer_operations"),
                _CONSENSUS_BLOCK,
                health.monitoring(network.files.organisation(org)),
            )
            for org in network.files.orderers
        ]
        programs = [future.result() for future in asked]
        members = [future.result() for future in members_asked]
        committed = [number for future in orderers if (number := future.result()) is not None]
    height = max(committed) + 1 if committed else None
    problems = [*_of_programs(programs), *_of_members(members)]
    return NetworkStatus(home, True, height, programs, members, problems)


def _program(name: str, state: ProgramState | None, at: Ports) -> ProgramStatus:
    organisation, kind = split_program(name)
    address = at.address(organisation, "ipfs_rpc" if kind == "ipfs" else kind)
    if state is None or not state.pid:
        told = state.description if state else "unknown to the supervisor"
        return ProgramStatus(name, state.state if state else "ABSENT", 0, 0, address, False, told)
    answer = health.ask(name, at)
    uptime = max(int(time.time()) - state.started_at, 0)
    return ProgramStatus(name, state.state, state.pid, uptime, address, answer.ready, answer.reason)


def _member(folders: Organisation, at: Ports) -> MemberStatus:
    name = folders.name
    height = _gauge(at.address(name, "peer_operations"), _PEER_HEIGHT, health.monitoring(folders))
    ledger = at.address(name, "ledger_metrics")
    projected = _gauge(ledger, "cbmdhi_ledger_projected_height_blocks")
    lag = None if height is None or projected is None else max(height - projected, 0)
    messages, consumers = _stream(at.address(name, "nats_monitor"))
    return MemberStatus(
        name=name,
        msp_id=msp_id(name),
        channel_height=height,
        projected_height=projected,
        projection_lag_blocks=lag,
        publication_lag_blocks=_gauge(ledger, "cbmdhi_ledger_publication_lag_blocks"),
        ipfs_peers=_ipfs_peers(at.address(name, "ipfs_rpc")),
        stream_messages=messages,
        stream_consumers=consumers,
    )


_PEER_HEIGHT = f'ledger_blockchain_height{{channel="{CHANNEL}"}}'
_CONSENSUS_BLOCK = f'consensus_etcdraft_committed_block_number{{channel="{CHANNEL}"}}'


def _gauge(address: str, series: str, tls: ssl.SSLContext | None = None) -> int | None:
    """The value of a Prometheus series, or None when it is not there."""
    status, body = health.get(address, "/metrics", tls=tls)
    if status == 200:
        for line in body.decode(errors="replace").splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return int(float(value))
    return None


def _ipfs_peers(address: str) -> int | None:
    status, body = health.get(address, "/api/v0/swarm/peers", "POST")
    if status != 200:
        return None
    # Nodes that dialled one another at once have two connections.
    return len({peer["Peer"] for peer in json.loads(body).get("Peers") or []})


def _stream(address: str) -> tuple[int | None, int | None]:
    """Messages in the ledger's stream, and who consumes it."""
    status, body = health.get(address, "/jsz?streams=true")
    if status != 200:
        return None, None
    for account in json.loads(body).get("account_details") or []:
        for stream in account.get("stream_detail") or []:
            if stream["name"] == STREAM:
                return stream["state"]["messages"], stream["state"]["consumer_count"]
    return None, None


def _of_programs(programs: Sequence[ProgramStatus]) -> list[str]:
    return [
        f"{program.name} is {program.state}" + (f": {program.reason}" if program.reason else "")
        for program in programs
        if not program.healthy
    ]


def _of_members(members: Sequence[MemberStatus]) -> list[str]:
    problems: list[str] = []
    for member in members:
        if member.channel_height is None:
            problems.append(f"the peer of {member.name} does not report the channel's height")
        if member.projection_lag_blocks is None:
            problems.append(f"the ledger of {member.name} does not report its projection")
        elif member.projection_lag_blocks > _LAG_BLOCKS:
            problems.append(
                f"the projection of {member.name} is {member.projection_lag_blocks} blocks behind its peer"
            )
        if member.publication_lag_blocks is not None and member.publication_lag_blocks > _LAG_BLOCKS:
            problems.append(f"events of {member.name} are {member.publication_lag_blocks} blocks behind")
        if not member.ipfs_peers:
            problems.append(f"the Kubo node of {member.name} is connected to no other member")
        if member.stream_messages is None:
            problems.append(f"the NATS of {member.name} has no stream {STREAM} yet")
    heights = [member.channel_height for member in members if member.channel_height is not None]
    if heights and max(heights) - min(heights) > _LAG_BLOCKS:
        problems.append(f"the peers are {max(heights) - min(heights)} blocks apart")
    return problems
