"""The notify service as a process, with the real NATS server; the ledger's policy is a test's."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2, command_pb2
from cbmdhi.ledger.v1 import events_pb2, ledger_pb2, ledger_pb2_grpc
from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from cbmdhi.protocol import call as calls
from services.notify.config import NotifyConfig
from services.runtime.callers import Caller, caller_metadata, require_peer
from services.runtime.client import call, connect, stream
from services.runtime.config import ServiceConfig, Tls
from services.runtime.errors import MeshError
from services.runtime.lifecycle import Lifecycle
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM, TRANSACTION_COMMITTED, Publisher
from services.runtime.server import GrpcServer
from tests.support.channel import CHANNEL
from tests.support.fakes.notify_events import CLINICIAN, PATIENT, SIGNERS, entry, event, registered
from tests.support.nats_server import NatsServer
from tests.support.pki import Consortium
from tests.support.waiting import free_port, until

M = TypeVar("M", bound=Message)


class LedgerConfig(ServiceConfig):
    service_name = "ledger"


class Ledger(ledger_pb2_grpc.LedgerServiceServicer):
    """Knows the policy and what was committed, a block for each time that something was."""

    def __init__(self) -> None:
        self.blocks: list[events_pb2.TransactionCommitted] = []

    async def ListCommitted(self, request: Any, context: Any) -> ledger_pb2.ListCommittedResponse:
        require_peer(context, services={"notify"})
        part = self.blocks[request.from_block :]
        return ledger_pb2.ListCommittedResponse(transactions=part, next_block=request.from_block + len(part))

    async def ListMembers(self, request: Any, context: Any) -> ledger_pb2.ListMembersResponse:
        require_peer(context, services={"notify"})
        rule = command_pb2.ReviewRule(role=command_pb2.ROLE_PATIENT, quorum=2)
        return ledger_pb2.ListMembersResponse(policy=command_pb2.PolicyDocument(review_rules=[rule]))

    async def GetIdentity(self, request: Any, context: Any) -> ledger_pb2.GetIdentityResponse:
        require_peer(context, services={"notify"})
        return registered(request.address)


@dataclass
class Mercy:
    """Mercy's NATS and notify service, and its gateway's and ledger's hands."""

    folder: Path
    consortium: Consortium
    nats: NatsServer
    config_file: Path
    address: str
    ops: str
    stack: AsyncExitStack
    publisher: Publisher
    ledger: Ledger
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.notify", "--config", str(self.config_file)
        )
        await until(self.is_ready, "notify is ready")

    async def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 20)

    async def readiness(self) -> tuple[int, dict[str, Any]]:
        try:
            async with aiohttp.ClientSession() as http, http.get(self.ops + "/readyz") as answer:
                return answer.status, await answer.json()
        except aiohttp.ClientError:
            return 0, {}

    async def is_ready(self) -> bool:
        return (await self.readiness())[0] == 200

    def stub(self, service: str = "gateway", organisation: str = "mercy") -> notify_pb2_grpc.InboxServiceStub:
        tls = self.consortium.tls(service, organisation)
        channel = connect(self.address, tls, service="notify", organisation="mercy")
        self.stack.push_async_callback(channel.close)
        return notify_pb2_grpc.InboxServiceStub(channel)

    def commit(self, happened: events_pb2.TransactionCommitted) -> None:
        """It is committed, and no event says so."""
        self.ledger.blocks.append(happened)

    async def publish(self, happened: events_pb2.TransactionCommitted) -> None:
        """It is committed, and an event says that there is something."""
        self.commit(happened)
        await self.announce(happened.tx_id)

    async def announce(self, message_id: str, data: bytes = b"") -> None:
        async def taken() -> bool:
            try:
                await self.publisher.publish(
                    data,
                    message_id=message_id,
                    event_type=TRANSACTION_COMMITTED,
                    at_ms=1_000,
                )
            except MeshError as err:
                if err.code != code_pb2.CODE_UNAVAILABLE:
                    raise
                return False
            return True

        await until(taken, "published")

    async def inbox(self, owner: str, **request: Any) -> list[notify_pb2.Notification]:
        answer = await call(
            self.stub().List,
            signed(notify_pb2.ListRequest(**request), owner),
            deadline_seconds=5,
            metadata=user(owner),
        )
        return list(answer.notifications)

    def stream(self) -> Any:
        """What the patient is told from now on."""
        request = signed(notify_pb2.StreamRequest(), PATIENT)
        return stream(self.stub().Stream, request, metadata=user(PATIENT))

    async def kinds(self, owner: str) -> list[str]:
        return [one.kind for one in await self.inbox(owner)]


def user(address: str) -> Any:
    return caller_metadata(Caller(address, "patient", "MercyMSP"))


def signed(request: M, owner: str) -> M:
    """The request as its owner's own call."""
    return calls.sign(request, SIGNERS[owner], channel=CHANNEL, msp="MercyMSP")


def read(number: int) -> events_pb2.TransactionCommitted:
    return event(entry("read", CLINICIAN, patient=PATIENT, command_id=f"c{number}"), tx_id=f"tx-{number}")


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Mercy]:
    """Mercy's notify service, ready, and all that it needs; gone at the end."""
    consortium = Consortium(tmp_path / "pki")
    async with AsyncExitStack() as stack:
        nats = NatsServer(tmp_path / "nats", consortium)
        await nats.start()
        stack.push_async_callback(nats.kill)
        ledger = Ledger()
        ledger_address = await _serve(ledger, consortium, stack)
        link = await stack.enter_async_context(NatsConnection(consortium.nats(nats.url, "ledger"), "ledger"))
        address, ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        file = _config(tmp_path, consortium, nats.url, ledger_address, address, ops)
        publisher = Publisher(link, LEDGER_STREAM, source="MercyMSP")
        mercy = Mercy(tmp_path, consortium, nats, file, address, f"http://{ops}", stack, publisher, ledger)
        await mercy.start()
        yield mercy
        if mercy.process is not None and mercy.process.returncode is None:
            mercy.process.kill()
            await mercy.process.wait()


async def _serve(ledger: Ledger, consortium: Consortium, stack: AsyncExitStack) -> str:
    config = LedgerConfig.model_validate(
        {
            "organisation": "mercy",
            "msp_id": "MercyMSP",
            "channel": "cbmdhi",
            "listen_address": "127.0.0.1:0",
            "metrics_address": "127.0.0.1:0",
            "tls": consortium.tls("ledger"),
        }
    )
    life = Lifecycle(config)
    stack.push_async_callback(life.close)
    server = GrpcServer(config, life)
    server.add(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, ledger)
    await server.start()
    stack.push_async_callback(server.stop, 0.1)
    return f"127.0.0.1:{server.ports[0]}"


def _config(folder: Path, consortium: Consortium, nats_url: str, ledger: str, address: str, ops: str) -> Path:
    tls: Tls = consortium.tls("notify")
    nats = consortium.nats(nats_url)
    members = "".join(
        f'[[tls.members]]\nmsp_id = "{member.msp_id}"\nca_file = "{member.ca_file}"\n'
        for member in tls.members
    )
    file = folder / "notify.toml"
    file.write_text(
        'organisation = "mercy"\nmsp_id = "MercyMSP"\nchannel = "cbmdhi"\n'
        f'genesis_sha256 = "{CHANNEL.genesis_sha256.hex()}"\ndrain_seconds = 2\n'
        f'listen_address = "{address}"\nmetrics_address = "{ops}"\nledger_address = "{ledger}"\n'
        f'data_directory = "{folder / "data"}"\ncatch_up_seconds = 0.5\n'
        f'[nats]\nurl = "{nats.url}"\nca_file = "{nats.ca_file}"\n'
        f'certificate_file = "{nats.certificate_file}"\nkey_file = "{nats.key_file}"\n'
        f'[tls]\ncertificate_file = "{tls.certificate_file}"\nkey_file = "{tls.key_file}"\n{members}',
        encoding="utf-8",
    )
    NotifyConfig.load(["--config", str(file)])
    return file
