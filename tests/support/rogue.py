"""Who has broken into a member's service: its process, its keys, its certificates, and network reach."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from cbmdhi.client import Client
from cbmdhi.client.records import NewRecord, Prepared
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError, from_rpc
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.identity.v1 import identity_pb2_grpc
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.notify.v1 import notify_pb2_grpc
from cbmdhi.protocol import command, consortium, signature
from cbmdhi.protocol.ids import uuid7
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from cbmdhi.wallet import Wallet
from ops.devnet import Network
from services.runtime.client import connect
from services.runtime.config import Tls
from tests.support.waiting import free_port

_SECONDS = 20.0


class Insider:
    """Calls whom it likes with the TLS key of a member's service. `async with` it."""

    def __init__(self, network: Network, organisation: str, service: str) -> None:
        self.network = network
        self.organisation = organisation
        self.folder = network.files.organisation(organisation).service(service)
        self.config = tomllib.loads((self.folder / "config.toml").read_text())
        self._tls = Tls.model_validate(self.config["tls"])
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    def to(self, service: str, organisation: str = "") -> grpc.aio.Channel:
        """A channel to a service, by default of the own member."""
        place = service, organisation or self.organisation
        if place not in self._channels:
            address = self.network.ports().address(place[1], service)
            channel = connect(address, self._tls, service=service, organisation=place[1])
            self._resources.push_async_callback(channel.close)
            self._channels[place] = channel
        return self._channels[place]

    @property
    def ledger(self) -> Any:
        return ledger_pb2_grpc.LedgerServiceStub(self.to("ledger"))

    @property
    def storage(self) -> Any:
        return storage_pb2_grpc.StorageServiceStub(self.to("storage"))

    @property
    def sessions(self) -> Any:
        return identity_pb2_grpc.SessionServiceStub(self.to("identity"))

    @property
    def enrolment(self) -> Any:
        return identity_pb2_grpc.EnrolmentServiceStub(self.to("identity"))

    @property
    def registrations(self) -> Any:
        return identity_pb2_grpc.RegistrationServiceStub(self.to("identity"))

    @property
    def inboxes(self) -> Any:
        return notify_pb2_grpc.InboxServiceStub(self.to("notify"))


async def ask(method: Callable[..., Awaitable[Any]], request: Message, **more: Any) -> Any:
    """The answer. Raises MeshError."""
    try:
        return await method(request, timeout=_SECONDS, **more)
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from error


async def refusal(attempt: Awaitable[Any]) -> MeshError:
    """Why an attempt failed. Raises AssertionError when it did not."""
    try:
        answer = await attempt
    except MeshError as error:
        return error
    raise AssertionError(f"it was done: {answer!r:.300}")


async def why_not(attempt: Awaitable[Any]) -> str:
    """Why an attempt failed; empty when it did not."""
    try:
        await attempt
    except MeshError as error:
        return error.reason
    return ""


@dataclass
class Carried:
    """A group with what its carrier says of its contents."""

    group: pb.CommandGroup
    contents: Sequence[state_pb2.StoredContent] = ()
    sealed_keys: Sequence[state_pb2.SealedKey] = ()
    seals: Sequence[state_pb2.SealedBatch] = ()


class RogueGateway(Insider):
    """A gateway that does what it likes with what is sent to it: see `Serving`."""

    def __init__(self, network: Network, organisation: str = "mercy") -> None:
        super().__init__(network, organisation, "gateway")
        key = (self.folder / "device" / "signing.key").read_bytes()
        self.device_key = signature.load_private_key(key)
        self.channel = consortium.load(network.files.consortium_file).signed_channel

    def device(self, delegation: pb.SignedDelegation | None = None) -> command.KeySigner:
        """The gateway's device, that signs within somebody's delegation or alone."""
        return command.KeySigner(self.device_key, delegation)

    def sign(self, by: command.Signer, body: Message, lifetime_seconds: int = 300) -> pb.SignedCommand:
        """A command of somebody who signs for this network's channel."""
        raw = command.make(
            body, channel=self.channel, lifetime_seconds=lifetime_seconds, delegation=by.delegation
        )
        return by.sign_command(raw)

    async def carry(self, *carried: Carried | pb.SignedCommand) -> list[ledger_pb2.Receipt]:
        """Through the member's own ledger service to the channel: the first receipt of each group."""
        groups = [
            one if isinstance(one, Carried) else Carried(pb.CommandGroup(commands=[one])) for one in carried
        ]
        request = ledger_pb2.SubmitRequest(
            submissions=[
                ledger_pb2.SealedGroup(
                    item=state_pb2.BatchItem(group=one.group, contents=one.contents),
                    sealed_keys=one.sealed_keys,
                )
                for one in groups
            ],
            seals=[seal for one in groups for seal in one.seals],
        )
        answer = await ask(self.ledger.Submit, request)
        return [group.receipts[0] for group in answer.groups]

    async def seal(
        self, signed: pb.SignedCommand, content: bytes, salt: bytes, commitment: bytes = b""
    ) -> Carried:
        """Have a content sealed and pinned for somebody's PutRecord, whatever that commits to."""
        header, body = command.parse(signed)
        put = body.put_record
        request = storage_pb2.SealRequest(
            items=[
                storage_pb2.SealItem(
                    record_id=put.record_id,
                    version=put.version,
                    patient=put.patient,
                    content=content,
                    salt=salt,
                    content_commitment=commitment or put.content_commitment,
                    command_id=header.command_id,
                    signer=signed.signer,
                )
            ]
        )
        answer = await ask(self.storage.Seal, request)
        [result] = answer.results
        if result.code != code_pb2.CODE_OK:
            raise MeshError(result.code, result.reason)
        group = pb.CommandGroup(commands=[signed])
        return Carried(group, [result.stored], result.sealed_keys, answer.seals)

    async def read(self, signed: pb.SignedCommand) -> gateway_pb2.ReadResponse:
        """What an honest gateway answers to a reading."""
        [receipt] = await self.carry(signed)
        if receipt.code != code_pb2.CODE_OK:
            return gateway_pb2.ReadResponse(receipt=receipt)
        opened = await ask(
            self.storage.Open, storage_pb2.OpenRequest(tx_id=receipt.tx_id, command_id=receipt.command_id)
        )
        place = ledger_pb2.GetRecordVersionRequest(
            record_id=opened.record.record_id, version=opened.record.version
        )
        proven = await ask(self.ledger.Prove, ledger_pb2.ProveRequest(versions=[place]))
        return gateway_pb2.ReadResponse(receipt=receipt, opened=opened, evidence=proven.evidence)


@dataclass
class Serving(gateway_pb2_grpc.RecordServiceServicer, gateway_pb2_grpc.CommandServiceServicer):
    """The rogue at the gateway's place, with the gateway's certificate: `async with` it gives its address.

    forges  what it does to the answer to a reading
    submit  what it does with a group that it should carry
    evidence  what it gives of any command
    consents  what it shows as the caller's
    """

    rogue: RogueGateway
    forges: Callable[[pb.Access, gateway_pb2.ReadResponse], Awaitable[None]] | None = None
    submit: Callable[[gateway_pb2.SubmitRequest], Awaitable[gateway_pb2.SubmitResponse]] | None = None
    evidence: ledger_pb2.Evidence | None = None
    consents: state_pb2.ConsentDocument | None = None

    async def __aenter__(self) -> Serving:
        self._server = grpc.aio.server()
        gateway_pb2_grpc.add_RecordServiceServicer_to_server(self, self._server)
        gateway_pb2_grpc.add_CommandServiceServicer_to_server(self, self._server)
        tls = self.rogue.config["tls"]
        pair = _bytes(tls["key_file"]), _bytes(tls["certificate_file"])
        self.address = f"127.0.0.1:{free_port()}"
        self._server.add_secure_port(self.address, grpc.ssl_server_credentials([pair]))
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    def serves(self, wallet: Wallet) -> Wallet:
        """The wallet of somebody who speaks to the rogue and takes it for the member's gateway."""
        member = wallet.consortium.member_named(self.rogue.organisation)
        moved = replace(member, gateway=replace(member.gateway, grpc=self.address))
        members = {**wallet.consortium.members, member.msp_id: moved}
        return replace(wallet, consortium=replace(wallet.consortium, members=members))

    async def Read(self, request: gateway_pb2.ReadRequest, context: Any) -> gateway_pb2.ReadResponse:
        answer = await self.rogue.read(request.command)
        if self.forges is not None:
            await self.forges(command.parse(request.command)[1].access, answer)
        return answer

    async def ListConsents(
        self, request: gateway_pb2.ListConsentsRequest, context: Any
    ) -> gateway_pb2.ListConsentsResponse:
        return gateway_pb2.ListConsentsResponse(consents=self.consents)

    async def GetProof(
        self, request: gateway_pb2.GetProofRequest, context: Any
    ) -> gateway_pb2.GetProofResponse:
        return gateway_pb2.GetProofResponse(evidence=self.evidence)

    async def Submit(self, request: gateway_pb2.SubmitRequest, context: Any) -> gateway_pb2.SubmitResponse:
        assert self.submit is not None
        return await self.submit(request)


def _bytes(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read()


# What its clients send


def signed_record(
    author: Client, record: NewRecord
) -> tuple[Prepared, pb.SignedCommand, gateway_pb2.Content]:
    """What an author sends: all of it passes through the gateway."""
    prepared = author.records.prepare(record)
    [signed], [content] = prepared.item.group.commands, prepared.item.contents
    return prepared, signed, content


async def written(author: Client, prepared: Prepared) -> gateway_pb2.RecordReceipt:
    """Written through an honest gateway."""
    [result] = [one async for one in author.records.send([prepared])]
    assert result.ok, result
    return result.receipt


def access(record: NewRecord, purpose: str = "TREAT") -> pb.Access:
    """A reading of that version."""
    return pb.Access(
        patient=record.patient,
        record_id=record.record_id,
        version=record.version,
        purpose=purpose,
        action="read",
    )


def delegated(
    by: Wallet, device: str, patients: Sequence[str] = (), seconds: int = 600
) -> pb.SignedDelegation:
    """What somebody signs when they log in at a gateway over REST."""
    now_ms = time.time_ns() // 1_000_000
    channel = by.consortium.signed_channel
    raw = pb.Delegation(
        delegation_id=uuid7(),
        channel=channel.name,
        genesis_sha256=channel.genesis_sha256,
        delegator=by.address,
        delegate=device,
        actions=("read", "history"),
        purposes=("TREAT",),
        patients=patients,
        issued_at_ms=now_ms,
        expires_at_ms=now_ms + seconds * 1000,
    ).SerializeToString(deterministic=True)
    return pb.SignedDelegation(delegation=raw, signature=by.sign(signature.DELEGATION, raw))


async def opened(rogue: RogueGateway, decided: ledger_pb2.Receipt) -> storage_pb2.OpenResponse:
    """What storage gives a gateway for a decision."""
    request = storage_pb2.OpenRequest(tx_id=decided.tx_id, command_id=decided.command_id)
    return await ask(rogue.storage.Open, request)
