"""Storage services as processes of their own, with real Kubo nodes, mTLS, and a stand-in for the ledger.

The stand-in answers from `tests.support.fakes.committed_channel.Channel`: its blocks and signatures are
real; the whole network with the real ledger is what the end-to-end tests start.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import tomli_w
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.command.v1.command_pb2 import PolicyDocument
from cbmdhi.command.v1.state_pb2 import WriterKey
from cbmdhi.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from cbmdhi.protocol import hpke
from services.runtime.callers import require_peer
from services.runtime.config import ServiceConfig
from services.runtime.lifecycle import Lifecycle
from services.runtime.server import GrpcServer
from services.storage.domain.lease import Content
from tests.contract.kubo_node import KuboNode
from tests.support.channel import CHANNEL as SIGNED
from tests.support.fakes.committed_channel import Channel, FakeLedger
from tests.support.fakes.fabric_blocks import CHANNEL
from tests.support.fakes.own_peer import OwnPeer
from tests.support.fakes.revocation_service import IdentityStandIn
from tests.support.pki import Consortium
from tests.support.waiting import free_port, until

_STOP_SECONDS = 20


class _LedgerConfig(ServiceConfig):
    service_name = "ledger"


class LedgerStandIn(ledger_pb2_grpc.LedgerServiceServicer):
    """A member's ledger service over the channel in memory, with the real surface."""

    def __init__(self, channel: Channel, consortium: Consortium, organisation: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.view = FakeLedger(channel, f"{organisation.capitalize()}MSP")
        config = _LedgerConfig(
            organisation=organisation,
            msp_id=self.view.msp,
            channel=CHANNEL,
            listen_address=self.address,
            metrics_address="127.0.0.1:0",
            tls=consortium.tls("ledger", organisation),
        )
        self._server = GrpcServer(config, Lifecycle(config), max_message_bytes=33 * 1024 * 1024)
        self._server.add(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, self)

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    async def GetIdentities(self, request: Any, context: Any) -> ledger_pb2.GetIdentitiesResponse:
        require_peer(context, services={"storage"})
        answer = ledger_pb2.GetIdentitiesResponse()
        for address in request.addresses:
            place = answer.identities.add()
            if address in self.view.channel.identities:
                place.identity.CopyFrom(self.view.channel.identities[address])
                place.registration.CopyFrom(self.view.channel.registrations[address])
        return answer

    async def ListMembers(self, request: Any, context: Any) -> ledger_pb2.ListMembersResponse:
        consortium = await self.view.consortium()
        policy = PolicyDocument(min_replicas=consortium.min_replicas)
        return ledger_pb2.ListMembersResponse(
            members=consortium.members.values(), policy=policy, channel=CHANNEL
        )

    async def GetWriterKeys(self, request: Any, context: Any) -> ledger_pb2.GetWriterKeysResponse:
        answer = ledger_pb2.GetWriterKeysResponse()
        for ref in await self.view.writer_keys(request.patients):
            place = answer.writer_keys.add()
            if ref is not None:
                place.writer_key.MergeFrom(
                    WriterKey(key_id=ref.key_id, epoch=ref.epoch, sealed_key_sha256=ref.sealed_key_sha256)
                )
        return answer

    async def GetCommittedContents(
        self, request: Any, context: Any
    ) -> ledger_pb2.GetCommittedContentsResponse:
        require_peer(context, services={"storage"})
        return await self.view.committed_contents(
            {
                batch.root_cid: [Content("", one.command_id, one.signer) for one in batch.commands]
                for batch in request.batches
            }
        )

    async def Explain(self, request: Any, context: Any) -> ledger_pb2.ExplainResponse:
        return ledger_pb2.ExplainResponse(verdicts=await self.view.explain(request.items))

    async def GetSealedKeys(self, request: Any, context: Any) -> ledger_pb2.GetSealedKeysResponse:
        return ledger_pb2.GetSealedKeysResponse(sealed=await self.view.sealed_keys(request.keys))

    async def GetHeight(self, request: Any, context: Any) -> ledger_pb2.GetHeightResponse:
        return ledger_pb2.GetHeightResponse(height=8, projected=8)


class StorageProcess:
    """`python -m services.storage` of a member; `stop` and `start` again is a restart."""

    def __init__(self, folder: Path, organisation: str) -> None:
        self.organisation = organisation
        self.address = f"127.0.0.1:{free_port()}"
        self._metrics_address = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._config, self._log = "config.toml", "log"
        self._process: asyncio.subprocess.Process | None = None

    def configure(
        self,
        consortium: Consortium,
        channel: Channel,
        ledger_address: str,
        identity: IdentityStandIn,
        peer: OwnPeer,
        kubo: KuboNode,
        addresses: dict[str, str],
        vault_private: bytes,
        signing_pem: bytes,
    ) -> None:
        """Write config.toml and the key files."""
        self._folder.mkdir(parents=True)
        assert len(vault_private) == hpke.PRIVATE_KEY_BYTES
        for name, content in (("vault.key", vault_private), ("signing.key", signing_pem)):
            (self._folder / name).touch(0o600)
            (self._folder / name).write_bytes(content)
        network = channel.network
        reader = (network.mercy if self.organisation == "mercy" else network.lakeside).issue("client")
        (self._folder / "reader.pem").write_bytes(reader.pem)
        (self._folder / "reader.key").write_bytes(
            reader.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        tls = consortium.tls("storage", self.organisation).model_dump(mode="json")
        document: dict[str, Any] = {
            "organisation": self.organisation,
            "msp_id": f"{self.organisation.capitalize()}MSP",
            "channel": CHANNEL,
            "genesis_sha256": SIGNED.genesis_sha256.hex(),
            "listen_address": self.address,
            "metrics_address": self._metrics_address,
            "data_directory": str(self._folder / "data"),
            "log_level": "debug",
            "ledger_address": ledger_address,
            "identity_address": identity.address,
            "notify_address": "127.0.0.1:1",
            "kubo_rpc_address": kubo.rpc_address,
            "vault_key_file": str(self._folder / "vault.key"),
            "storage_signing_key_file": str(self._folder / "signing.key"),
            "push_seconds": 10.0,
            "tls": tls,
            "members": [
                {
                    "msp_id": f"{name.capitalize()}MSP",
                    "storage_address": address,
                }
                for name, address in addresses.items()
            ],
            "client_ca": identity.roots(self._folder),
            "peer": {
                "address": peer.address,
                "tls_ca_file": str(consortium.members[self.organisation].ca_file),
            },
            "fabric_identity": {
                "certificate_file": str(self._folder / "reader.pem"),
                "key_file": str(self._folder / "reader.key"),
            },
        }
        (self._folder / self._config).write_text(tomli_w.dumps(document), encoding="utf-8")

    def twin(self) -> StorageProcess:
        """Another process of the same storage: its folder and keys, ports of its own. It is not started."""
        twin = StorageProcess(self._folder, self.organisation)
        twin._config, twin._log = "twin.toml", "twin.log"
        document = tomllib.loads((self._folder / self._config).read_text(encoding="utf-8"))
        own = {"listen_address": twin.address, "metrics_address": twin._metrics_address}
        (self._folder / twin._config).write_text(tomli_w.dumps({**document, **own}), encoding="utf-8")
        return twin

    async def start(self, *, ready: bool = True) -> None:
        """Start it, and return when it is ready."""
        with (self._folder / self._log).open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.storage",
                "--config",
                str(self._folder / self._config),
                stdout=log,
                stderr=log,
            )
        if ready:
            await until(self.is_ready, f"storage of {self.organisation} is ready", 30)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int | None:
        """End it; gives its exit status."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            self._process.send_signal(how)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                # The test fails all the same, but leaves nothing running.
                self._process.kill()
                await self._process.wait()
                raise
        return self._process.returncode

    async def collect(self) -> str:
        """What the operator's command says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.storage.collect", "--config", str(self._folder / self._config)),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode()

    async def is_ready(self) -> bool:
        """What /readyz says."""
        assert self._process is not None
        assert self._process.returncode is None, self.log()
        try:
            async with aiohttp.ClientSession() as session:
                url = f"http://{self._metrics_address}/readyz"
                async with session.get(url) as answer:
                    return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def metric(self, name: str) -> float:
        """A series of /metrics, as it stands there."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self._metrics_address}/metrics") as answer,
        ):
            lines = (await answer.text()).splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def log(self) -> str:
        """What it has printed."""
        return (self._folder / self._log).read_text(encoding="utf-8")
