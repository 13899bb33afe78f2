"""A peer that gets no blocks, and one that gives none."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from typing import Any

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from ops.devnet import Network
from ops.devnet.topology import ORDERER

_MANY, _ONE = "deliverService: 2500", "deliverService: 1"
_SECTION = "  deliveryclient:\n"
_PLACE_SECONDS = 30.0


async def cut_off(network: Network, member: str) -> None:
    """Send a peer to an address where no orderer is, and start it again. Raises DevnetError."""
    folders, ports = network.files.organisation(member), network.ports()
    core = folders.peer / "core.yaml"
    text = core.read_text()
    overrides = [
        {
            "from": ports.address(organisation, ORDERER),
            "to": "127.0.0.1:1",
            "caCertsFile": str(network.files.organisation(organisation).tls_ca_certificate),
        }
        for organisation in network.files.orderers
    ]
    if "addressOverrides" not in text:
        # JSON, which YAML reads too.
        core.write_text(text.replace(_SECTION, f"{_SECTION}    addressOverrides: {json.dumps(overrides)}\n"))
    await asyncio.to_thread(network.restart, f"{member}-peer")
    print(f"{member}-peer finds no orderer")


async def crowd(network: Network, member: str, seconds: float) -> None:
    """Follow a peer's blocks on the only place that it has, for a time. Raises DevnetError, MeshError."""
    core = network.files.organisation(member).peer / "core.yaml"
    core.write_text(core.read_text().replace(f"{_MANY},", f"{_ONE},"))
    ledger = f"{member}-ledger"
    # Held meanwhile: it would be as quick to ask for the place.
    network.supervisor.signal_program(ledger, "STOP")
    try:
        await asyncio.to_thread(network.restart, f"{member}-peer")
        taken = asyncio.Event()
        following = asyncio.create_task(_follow(network, member, taken))
        await _taken(taken, following)
    finally:
        network.supervisor.signal_program(ledger, "CONT")
    print(f"the only place at {member}-peer is taken", flush=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await following


async def _taken(taken: asyncio.Event, following: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(_PLACE_SECONDS):
            await taken.wait()
    except TimeoutError as error:
        following.cancel()
        raise MeshError(code_pb2.CODE_UNAVAILABLE, "somebody else has the only place at the peer") from error


async def _follow(network: Network, member: str, taken: asyncio.Event) -> None:
    endpoints: dict[str, Any] = network.endpoints()
    peer = endpoints["organisations"][member]["peer"]
    folders = network.files.organisation(member)
    keys = folders.service("ledger") / "fabric"
    identity, signer = fabric.load(
        endpoints["organisations"][member]["msp_id"],
        (keys / "certificate.pem").read_bytes(),
        (keys / "key.pem").read_bytes(),
    )
    connection = fabric.open_channel(
        peer["address"], folders.tls_ca_certificate.read_bytes(), peer["tls_server_name"]
    )
    try:
        blocks = (
            fabric.Gateway(connection, identity, signer)
            .network(endpoints["channel"])
            .blocks(0, fabric.Reconnect(first_delay_seconds=0.1, longest_delay_seconds=0.2))
        )
        async with aclosing(blocks) as following:
            async for _ in following:
                taken.set()
    finally:
        await connection.close()
