"""A real fabric-ca-server for tests: TLS, a folder and ports of its own, stopped by its pid."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.protocol import signature
from ops.devnet.identities import REGISTRAR, REGISTRAR_TYPE
from services.identity.fabric_ca import FabricCa
from services.identity.fabric_ca_transport import Registrar, Transport, open_transport
from services.runtime.telemetry import Metrics

BOOTSTRAP_ID = "bootstrap"
BOOTSTRAP_SECRET = "bootstrap-of-a-test"
CA_NAME = "ca"
FABRIC_CLIENT = "ledger"
"""An identity of the channel that is registered beside the registrar."""
_SECRET = "of a registered one"
_START_SECONDS = 30
_STOP_SECONDS = 10


def binary() -> Path:
    """The pinned program, as `make build` makes it."""
    found = Path(__file__).parents[2] / ".tools" / "bin" / "fabric-ca-server"
    if not found.is_file():
        raise FileNotFoundError("fabric-ca-server is not built; run `make build`")
    return found


class FabricCaServer:
    """One server; `stop` and `start` again on the same ports and folder is a restart."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, self._operations_port = free_ports(2)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def root_file(self) -> Path:
        """Root of its TLS certificate."""
        return self.home / "ca-cert.pem"

    async def start(self) -> None:
        """Start and wait until it answers a TLS handshake with its own root."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary(), "start",
                "--home", str(self.home),
                "--address", "127.0.0.1", "--port", str(self.port),
                "--operations.listenaddress", f"127.0.0.1:{self._operations_port}",
                "--boot", f"{BOOTSTRAP_ID}:{BOOTSTRAP_SECRET}",
                "--ca.name", CA_NAME,
                "--csr.cn", "ca.mercy", "--csr.hosts", "127.0.0.1,localhost",
                "--tls.enabled",
                env={key: value for key, value in os.environ.items() if not key.startswith("FABRIC_CA")},
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        async with asyncio.timeout(_START_SECONDS):
            while not await self._answers():
                if self._process.returncode is not None:
                    raise RuntimeError((self.home / "log").read_text(errors="replace")[-2000:])
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End it by its pid and wait until it is gone."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def remove(self) -> None:
        """Stop and forget."""
        await self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    async def _answers(self) -> bool:
        if not self.root_file.is_file():
            return False
        try:
            trust = ssl.create_default_context(cafile=str(self.root_file))
            _, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trust)
        except (OSError, ssl.SSLError):
            return False
        writer.close()
        await writer.wait_closed()
        return True


async def registrar_of(server: FabricCaServer) -> Registrar:
    """A registrar with the rights that the laptop network gives it, and no more."""
    key = signature.new_private_key()
    async with open_transport(server.url, server.root_file, Metrics("test")) as transport:
        bootstrap = await _enrol(transport, key, BOOTSTRAP_ID, BOOTSTRAP_SECRET)
        await _register(transport, bootstrap, "registrar", REGISTRAR_TYPE, REGISTRAR)
        await _register(transport, bootstrap, FABRIC_CLIENT, "client", {})
        return await _enrol(transport, key, "registrar", _SECRET)


async def _register(
    transport: Transport, by: Registrar, name: str, kind: str, attributes: Mapping[str, str]
) -> None:
    attrs = [{"name": each, "value": value} for each, value in attributes.items()]
    body = {"id": name, "type": kind, "secret": _SECRET, "attrs": attrs, "caname": CA_NAME}
    url, raw = transport.url("register"), json.dumps(body).encode()
    answer = await transport.exchange("register", "POST", url, raw, by.token("POST", url.path, raw))
    if answer.errors:
        raise RuntimeError(f"{name} was not registered: {answer.errors}")


async def _enrol(transport: Transport, key: ec.EllipticCurvePrivateKey, name: str, secret: str) -> Registrar:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    ca = FabricCa(transport, CA_NAME, Registrar(b"", key))
    enrolled = await ca.enrol(name, secret, csr.public_bytes(Encoding.PEM).decode())
    return Registrar(enrolled.certificate_pem.encode(), key)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
