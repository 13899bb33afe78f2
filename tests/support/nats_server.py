"""The real NATS server as a member runs it, on a port of its own."""

import asyncio
import shutil
import sys
from pathlib import Path

from ops.devnet import nats
from ops.devnet.templates import fill
from tests.support.pki import Consortium
from tests.support.waiting import free_port


class NatsServer:
    """Can be killed and started again on the same port, with its data or without."""

    def __init__(self, folder: Path, consortium: Consortium, *, monitor_port: int | None = None) -> None:
        self.port = free_port()
        self.url = f"tls://127.0.0.1:{self.port}"
        self._folder = folder
        self._store = folder / "jetstream"
        self._process: asyncio.subprocess.Process | None = None
        member = consortium.members["mercy"]
        issued = member.issue("nats")
        folder.mkdir(parents=True, exist_ok=True)
        configuration = fill(
            "nats/nats.conf",
            server_name="nats",
            users=nats.users(),
            address=f"127.0.0.1:{self.port}",
            monitor_address=f"127.0.0.1:{monitor_port or free_port()}",
            store_directory=self._store,
            tls_certificate=issued.certificate_file,
            tls_key=issued.key_file,
            tls_ca=member.ca_file,
        )
        (folder / "nats.conf").write_text(configuration, encoding="utf-8")

    async def start(self) -> None:
        """Start it and return when it accepts connections."""
        self._process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "nats-server"),
            "-c",
            str(self._folder / "nats.conf"),
            stderr=asyncio.subprocess.PIPE,
        )
        lines: list[str] = []
        assert self._process.stderr is not None
        async with asyncio.timeout(20):
            while b"Server is ready" not in (line := await self._process.stderr.readline()):
                assert line, "nats-server ended: " + "".join(lines)
                lines.append(line.decode())
        self._drain = asyncio.create_task(self._process.stderr.read())

    async def kill(self) -> None:
        """End it without ceremony, as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
            await self._drain

    def forget(self) -> None:
        """Throw its data away."""
        shutil.rmtree(self._store, ignore_errors=True)
