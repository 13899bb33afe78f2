"""Somebody who speaks to peers and orderer directly, with whatever certificate they have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fabric_protos.common import common_pb2
from fabric_protos.orderer import ab_pb2, ab_pb2_grpc

import fabric_gateway as fabric
from cbmdhi.client import Client
from cbmdhi.command.v1 import state_pb2
from cbmdhi.protocol.state_keys import POLICY
from fabric_gateway.identity import sha256
from fabric_gateway.proposal import header
from ops.devnet import Network
from ops.devnet.topology import msp_id

CHANNEL, CHAINCODE = "cbmdhi", "cbmdhi"
MEMBERS = ("mercy", "lakeside")
QUERY = state_pb2.Query(get_keys=state_pb2.GetKeys(keys=[POLICY])).SerializeToString()
_SECONDS = 20
common: Any = common_pb2
ab: Any = ab_pb2


class Caller:
    """Somebody with a certificate, by default of mercy, and every address of the network."""

    def __init__(self, network: Network, certificate: bytes, key: bytes, msp_id: str = "MercyMSP") -> None:
        self._described = network.endpoints()["organisations"]
        self._roots = {name: Path(of["tls_ca_file"]).read_bytes() for name, of in self._described.items()}
        self.identity, self.signer = fabric.load(msp_id, certificate, key)

    @asynccontextmanager
    async def at_peer(self, member: str) -> AsyncIterator[fabric.Network]:
        peer = self._described[member]["peer"]
        root = self._roots[member]
        async with fabric.open_channel(peer["address"], root, peer["tls_server_name"]) as channel:
            yield fabric.Gateway(channel, self.identity, self.signer).network(CHANNEL)

    async def first_block_at_orderer(self) -> Any:
        """The first answer of the orderer to a request for all blocks."""
        start = ab.SeekPosition(specified=ab.SeekSpecified(number=0))
        seek = ab.SeekInfo(start=start, stop=start, behavior=ab.SeekInfo.BLOCK_UNTIL_READY)
        return await self._at_orderer("Deliver", common.DELIVER_SEEK_INFO, seek.SerializeToString())

    async def broadcast(self) -> Any:
        """The orderer's answer to an envelope."""
        return await self._at_orderer("Broadcast", common.ENDORSER_TRANSACTION, b"")

    async def order(self, *envelopes: Any) -> list[Any]:
        """The orderer's answers to envelopes of one's own, sent one right after the other."""
        orderer = self._described["ordering"]["orderer"]
        root = self._roots["ordering"]
        async with fabric.open_channel(orderer["address"], root, "orderer.ordering") as channel:
            stub: Any = ab_pb2_grpc.AtomicBroadcastStub(channel)
            call = stub.Broadcast(timeout=_SECONDS)
            for envelope in envelopes:
                await call.write(envelope)
            answers = [await call.read() for _ in envelopes]
            call.cancel()
            return answers

    async def _at_orderer(self, method: str, kind: int, data: bytes) -> Any:
        orderer = self._described["ordering"]["orderer"]
        payload = common.Payload(
            header=header(kind, CHANNEL, self.identity.serialize()), data=data
        ).SerializeToString()
        envelope = common.Envelope(payload=payload, signature=self.signer(sha256(payload)))
        root = self._roots["ordering"]
        async with fabric.open_channel(orderer["address"], root, "orderer.ordering") as channel:
            stub: Any = ab_pb2_grpc.AtomicBroadcastStub(channel)
            call = getattr(stub, method)(timeout=_SECONDS)
            await call.write(envelope)
            answer = await call.read()
            call.cancel()
            return answer


def of(wallet: Client, network: Network) -> Caller:
    return Caller(network, wallet.wallet.certificate_pem.encode(), wallet.wallet.private_key_pem)


def ledger_of_mercy(network: Network) -> Caller:
    return ledger_of(network, "mercy")


def ledger_of(network: Network, member: str) -> Caller:
    """Whoever asks a system chaincode of a peer through it is sent to a peer of their own member."""
    folder = network.files.organisation(member).service("ledger") / "fabric"
    certificate, key = ((folder / name).read_bytes() for name in ("certificate.pem", "key.pem"))
    return Caller(network, certificate, key, msp_id(member))
