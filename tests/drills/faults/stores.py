"""A Kubo node that holds other bytes than it should, and a JetStream that is nearly full."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import nats
from nats.aio.client import Client
from nats.js import api

from cbmdhi.protocol import cid as cids
from ops.devnet import Network
from ops.devnet.commands import run
from ops.devnet.layout import tool
from tests.drills.users import People

FILLER = "FIRE_DRILL"
_MESSAGE_BYTES = 7_000_000
_CID_HEAD_BYTES = 2


async def rot(network: Network, users: People) -> None:
    """Write a record, spoil its block in mercy's Kubo node, read it; print what `cbmdhi get` needs for it.

    Raises MeshError, DevnetError.
    """
    written = await users.engine.records.put(users.record())
    await asyncio.to_thread(_spoil, network, written.cid)
    record = written.record
    # It is read all the same: its commitment is checked by the client.
    await users.patient.records.read(record.patient, record.record_id, record.version, "PATRQT")
    print(f"{record.record_id} --patient {record.patient}")


def _spoil(network: Network, cid: str) -> None:
    """With the node's own tool, which writes past its checks and needs the node to be stopped."""
    multihash = cids.to_bytes(cid)[_CID_HEAD_BYTES:]
    key = "/blocks/" + base64.b32encode(multihash).decode().rstrip("=")
    folder = network.files.organisation("mercy").ipfs
    network.stop("mercy-ipfs")
    try:
        run(
            network.files,
            [tool("ipfs"), "diag", "datastore", "put", key, "not what it was"],
            {"IPFS_PATH": str(folder), "IPFS_TELEMETRY": "off"},
        )
    finally:
        network.start("mercy-ipfs")
    # Storage remembers what it stored; a new process asks its node.
    network.restart("mercy-storage")


async def fill(endpoints: Mapping[str, Any], member: str, share: float) -> None:
    """Publish to a stream of its own until JetStream keeps that share of what it may."""
    where = endpoints["organisations"][member]["nats"]
    async with _connected(where) as client:
        jetstream = client.jetstream(timeout=20)
        await jetstream.add_stream(name=FILLER, subjects=["fire.drill"], storage=api.StorageType.FILE)
        while (kept := await _kept(where["monitor"])) < share:
            await jetstream.publish("fire.drill", bytes(_MESSAGE_BYTES))
        print(f"JetStream of {member} is {kept:.0%} full")


async def empty(endpoints: Mapping[str, Any], member: str) -> None:
    """Remove that stream."""
    async with _connected(endpoints["organisations"][member]["nats"]) as client:
        await client.jetstream(timeout=20).delete_stream(FILLER)
        print(f"the stream is gone from {member}'s JetStream")


@asynccontextmanager
async def _connected(where: Mapping[str, str]) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=where["ca_file"])
    context.load_cert_chain(where["certificate_file"], where["key_file"])
    client = await nats.connect(where["url"], tls=context, max_reconnect_attempts=3)
    try:
        yield client
    finally:
        await client.close()


async def _kept(monitor: str) -> float:
    """The share of its disk that JetStream uses."""
    async with aiohttp.ClientSession() as http, http.get(f"{monitor}/jsz") as answer:
        found = await answer.json()
    return found["storage"] / found["config"]["max_storage"]
