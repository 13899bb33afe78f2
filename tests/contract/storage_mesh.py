"""Two members' storage services with their Kubo nodes and ledger stand-ins, started and called."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import ROLE_PATIENT
from cbmdhi.command.v1.state_pb2 import MemberDocument, RecordVersion
from cbmdhi.protocol import hpke, signature
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import call, connect
from services.storage.domain.batch import MAX_MESSAGE_BYTES, PlainRecord
from services.storage.domain.keys import WriterKeyRef
from tests.contract.kubo_node import KuboNode, new_swarm_key
from tests.contract.storage_service import LedgerStandIn, StorageProcess
from tests.support.fakes.committed_channel import LAKESIDE, MERCY, Channel, Person
from tests.support.fakes.fabric_ca import Root
from tests.support.fakes.own_peer import OwnPeer
from tests.support.fakes.revocation_service import IdentityStandIn
from tests.support.pki import Consortium

MEMBERS = {"mercy": MERCY, "lakeside": LAKESIDE}
SECONDS = 30.0


@dataclass
class Mesh:
    """Everything that was started."""

    channel: Channel
    consortium: Consortium
    kubo: dict[str, KuboNode] = field(default_factory=dict)
    storage: dict[str, StorageProcess] = field(default_factory=dict)
    ledger: dict[str, LedgerStandIn] = field(default_factory=dict)
    peer: dict[str, OwnPeer] = field(default_factory=dict)

    def patient(self, *custodians: str) -> Person:
        return self.channel.register(ROLE_PATIENT, custodians or (MERCY, LAKESIDE))

    @asynccontextmanager
    async def calling(
        self, service: str, organisation: str, of: str = "mercy", at: StorageProcess | None = None
    ) -> AsyncIterator[Any]:
        """A channel to the storage of `of`, or one process of it, as a service of `organisation` has it."""
        tls = self.consortium.tls(service, organisation)
        async with connect(
            (at or self.storage[of]).address,
            tls,
            service="storage",
            organisation=of,
            max_message_bytes=MAX_MESSAGE_BYTES,
        ) as channel:
            yield channel

    async def seal(
        self, *items: PlainRecord, of: str = "mercy", at: StorageProcess | None = None
    ) -> storage_pb2.SealResponse:
        """As the member's gateway."""
        request = storage_pb2.SealRequest(
            items=[
                storage_pb2.SealItem(
                    record_id=each.record_id,
                    version=each.version,
                    patient=each.patient,
                    content=each.content,
                    salt=each.salt,
                    content_commitment=each.commitment,
                    command_id=each.command_id,
                    signer=each.signer,
                )
                for each in items
            ]
        )
        async with self.calling("gateway", of, of, at) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            return await call(
                stub.Seal, request, deadline_seconds=SECONDS, max_message_bytes=MAX_MESSAGE_BYTES
            )

    async def open(self, tx_id: str, command_id: str, of: str) -> storage_pb2.OpenResponse:
        """As the member's gateway."""
        async with self.calling("gateway", of, of) as channel:
            stub = storage_pb2_grpc.StorageServiceStub(channel)
            request = storage_pb2.OpenRequest(tx_id=tx_id, command_id=command_id)
            return await call(stub.Open, request, deadline_seconds=SECONDS)

    def refuse(self, *items: PlainRecord) -> None:
        """As the chaincode would, for good."""
        for each in items:
            self.channel.decided[each.command_id, each.signer] = code_pb2.CODE_CONFLICT

    def commit(self, items: tuple[PlainRecord, ...], sealed: storage_pb2.SealResponse) -> None:
        """As the ledger would, from what Seal said alone."""
        for each, result in zip(items, sealed.results, strict=True):
            assert result.code == code_pb2.CODE_OK, result.reason
            key = result.stored.writer_key
            self.channel.decided[each.command_id, each.signer] = code_pb2.CODE_OK
            self.channel.records[each.record_id, each.version] = RecordVersion(
                record_id=each.record_id,
                version=each.version,
                patient=each.patient,
                content_commitment=each.commitment,
                writer_msp=MERCY,
                content=result.stored,
            )
            self.channel.writer_keys[MERCY, each.patient] = WriterKeyRef(
                key.key_id, key.epoch, key.sealed_key_sha256
            )
            for sealed_key in result.sealed_keys:
                self.channel.private[sealed_key.msp, sealed_key.key] = sealed_key.sealed


async def start(mesh: Mesh, folder: Path, stack: AsyncExitStack) -> None:
    """Start everything; the stack stops it."""
    swarm_key = new_swarm_key()
    cas = {msp: Root.new(f"ca of {msp}") for msp in MEMBERS.values()}
    mesh.storage = {name: StorageProcess(folder / name / "storage", name) for name in MEMBERS}
    addresses = {name: storage.address for name, storage in mesh.storage.items()}
    for name, msp in MEMBERS.items():
        (vault_private, vault_public), signing = hpke.generate(), signature.new_private_key()
        mesh.channel.members[msp] = MemberDocument(
            msp=msp, vault_public_key=vault_public, storage_signing_key=signature.spki(signing.public_key())
        )
        node = mesh.kubo[name] = KuboNode(folder / name / "ipfs", swarm_key)
        await node.make()
        stack.push_async_callback(node.stop)
        await node.start()
        ledger = mesh.ledger[name] = LedgerStandIn(mesh.channel, mesh.consortium, name)
        stack.push_async_callback(ledger.stop)
        await ledger.start()
        identity = IdentityStandIn(cas, mesh.consortium, name)
        stack.push_async_callback(identity.stop)
        await identity.start()
        peer = mesh.peer[name] = OwnPeer(mesh.channel.network, mesh.channel.proofs)
        await peer.start(mesh.consortium.members[name].issue("peer"))
        stack.push_async_callback(peer.stop)
        pem = signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        mesh.storage[name].configure(
            mesh.consortium, mesh.channel, ledger.address, identity, peer, node, addresses, vault_private, pem
        )
    for storage in mesh.storage.values():
        stack.push_async_callback(storage.stop)
        await storage.start()
