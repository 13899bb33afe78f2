"""The Kubo nodes: one private swarm of the members, nothing announced, nothing looked up outside."""

import json
import secrets
from pathlib import Path
from typing import Any

from ops.devnet.commands import run
from ops.devnet.layout import Home, tool
from ops.devnet.supervision import Program
from ops.devnet.templates import settle, write_secret
from ops.devnet.topology import POSSIBLE_MEMBERS, Ports, program_name

_MIB = 1 << 20
# Blocks are named by hashes, so that every compaction rewrites all of a level: with pebble's own sizes (4 MiB
# of memory, 64 MiB of base level) that is half of what a node does under load. And it is done at one go, in
# seconds of CPU. With 84 layers of level 0 (pebble counts a layer twice) or 500 tables, which come first, it
# is once in some 700,000 records of 1 kB. Without compaction a block is looked for in more layers.
LAYERS = 168
# On a laptop the members' nodes share the cores and hold the same blocks: with one threshold both would
# compact in the same seconds. Here they do so after 37, 24 and 30 memory tables. Each keeps
# the priority of all: at nice 19 its imports, for which records wait, starve beside its compaction.
_LAYERS: dict[str, int] = dict(zip(POSSIBLE_MEMBERS, (74, 48, 60), strict=True))
_PEBBLE = {
    # Three are in use by turns: at 1,000 records of 1 kB a second all of them are touched within a minute.
    "memTableSize": 24 * _MIB,
    "memTableStopWritesThreshold": 4,
    "l0CompactionThreshold": LAYERS,
    "l0StopWritesThreshold": 256,
    "lBaseMaxBytes": 1024 * _MIB,
    "bytesPerSync": _MIB,
    "cacheSize": 32 * _MIB,
}
ENVIRONMENT = {"IPFS_TELEMETRY": "off", "LIBP2P_FORCE_PNET": "1"}


def program(home: Home, organisation: str) -> Program:
    """The node of a member."""
    folder = home.organisation(organisation).ipfs
    return Program(
        name=program_name(organisation, "ipfs"),
        argv=[tool("ipfs"), "daemon", "--migrate=false", "--enable-gc=false"],
        directory=folder,
        env={"IPFS_PATH": str(folder), **ENVIRONMENT},
        stop_seconds=10,
    )


def make(home: Home) -> None:
    """Make each member's repository and the key of their swarm, once."""
    swarm_key = f"/key/swarm/psk/1.0.0/\n/base16/\n{secrets.token_hex(32)}\n"
    for organisation in home.members:
        folder = home.organisation(organisation).ipfs
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(home, [tool("ipfs"), "init", "--profile", "pebbleds,autoconf-off"], _environment(folder))
        write_secret(folder / "swarm.key", swarm_key)


def configure(home: Home, ports: Ports) -> None:
    """Bring each node's settings to what the swarm needs; its identity stays."""
    documents = {org: _read(home.organisation(org).ipfs / "config") for org in home.members}
    peer_ids = {org: str(document["Identity"]["PeerID"]) for org, document in documents.items()}
    for organisation, document in documents.items():
        others = [
            {"ID": peer_ids[other], "Addrs": [_swarm_address(other, ports)]}
            for other in home.members
            if other != organisation
        ]
        api = f"/ip4/127.0.0.1/tcp/{ports.of(organisation, 'ipfs_rpc')}"
        own = settings(
            swarm=_swarm_address(organisation, ports), api=api, peers=others, layers=_LAYERS[organisation]
        )
        settle(document, own)
        write_secret(home.organisation(organisation).ipfs / "config", json.dumps(document, indent=2) + "\n")


def settings(*, swarm: str, api: str, peers: list[dict[str, Any]], layers: int = LAYERS) -> dict[str, Any]:
    """What a node's configuration is brought to. `swarm`, `api`: where it listens; `peers`: the others.

    `layers`: of level 0, each counted twice, before pebble compacts them.

    Each reason is measured or is the private swarm: docs in the Kubo configuration reference.
    """
    return {
        "Addresses": {"Swarm": [swarm], "API": api, "Gateway": []},
        # Peered nodes are protected from the connection manager and dialled again when lost.
        "Peering": {"Peers": peers},
        "Bootstrap": [],
        "Discovery": {"MDNS": {"Enabled": False}},
        "Routing": {"Type": "none", "DelegatedRouters": []},
        "Ipns": {"DelegatedPublishers": []},
        "DNS": {"Resolvers": {}},
        "Provide": {"Enabled": False},
        "Import": {"FastProvideRoot": False, "CidVersion": 1},
        "AutoConf": {"Enabled": False},
        "AutoTLS": {"Enabled": False},
        "AutoNAT": {"ServiceMode": "disabled"},
        "Swarm": {
            "DisableNatPortMap": True,
            "EnableHolePunching": False,
            "RelayClient": {"Enabled": False},
            "RelayService": {"Enabled": False},
            # Private networks exist over TCP only.
            "Transports": {
                "Network": {
                    "TCP": True,
                    "Websocket": False,
                    "QUIC": False,
                    "Relay": False,
                    "WebTransport": False,
                    "WebRTCDirect": False,
                }
            },
        },
        "Version": {"SwarmCheckDisabled": True},
        "Datastore": {"Spec": {**_PEBBLE, "l0CompactionThreshold": layers}},
    }


def _swarm_address(organisation: str, ports: Ports) -> str:
    return f"/ip4/127.0.0.1/tcp/{ports.of(organisation, 'ipfs_swarm')}"


def _environment(folder: Path) -> dict[str, str]:
    return {"IPFS_PATH": str(folder), "IPFS_TELEMETRY": "off"}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
