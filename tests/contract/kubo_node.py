"""Real Kubo nodes for tests: a folder, loopback ports and a private swarm of their own, stopped by pid."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.waiting import free_port

_START_SECONDS = 30
_STOP_SECONDS = 15


def binary() -> Path:
    """The pinned program, as `make build` makes it."""
    found = Path(__file__).parents[2] / ".tools" / "bin" / "ipfs"
    if not found.is_file():
        raise FileNotFoundError("ipfs is not built; run `make build`")
    return found


def new_swarm_key() -> str:
    """The key of a private swarm."""
    return f"/key/swarm/psk/1.0.0/\n/base16/\n{secrets.token_hex(32)}\n"


class KuboNode:
    """One node; `stop` and `start` again on the same folder and ports is a restart.

    profile  `pebbleds` as in production; `flatfs` keeps each block in a file that a test can damage
    """

    def __init__(self, home: Path, swarm_key: str, profile: str = "pebbleds") -> None:
        self.home = home
        self._swarm_key = swarm_key
        self._profile = profile
        self._rpc_port, self._swarm_port = free_port(), free_port()
        self._process: asyncio.subprocess.Process | None = None
        self.peer_id = ""

    @property
    def rpc_address(self) -> str:
        """`host:port` of the RPC."""
        return f"127.0.0.1:{self._rpc_port}"

    @property
    def swarm_address(self) -> str:
        """Multiaddr with peer id."""
        return f"/ip4/127.0.0.1/tcp/{self._swarm_port}/p2p/{self.peer_id}"

    async def make(self, **settings: Any) -> None:
        """Make the repository. `settings` replace sections of its configuration."""
        self.home.mkdir(parents=True)
        await self.run("init", "--empty-repo", "--profile", f"{self._profile},autoconf-off")
        file = self.home / "config"
        document = json.loads(file.read_text(encoding="utf-8"))
        self.peer_id = document["Identity"]["PeerID"]
        document["Addresses"] |= {
            "Swarm": [f"/ip4/127.0.0.1/tcp/{self._swarm_port}"],
            "API": f"/ip4/{self.rpc_address.replace(':', '/tcp/')}",
            "Gateway": [],
        }
        transports = dict.fromkeys(("QUIC", "Relay", "WebTransport", "WebRTCDirect", "Websocket"), False)
        document |= {
            "Bootstrap": [],
            "Discovery": {"MDNS": {"Enabled": False}},
            "Routing": {"Type": "none"},
            "Provide": {"Enabled": False},
            "Import": {"FastProvideRoot": False},
            "AutoTLS": {"Enabled": False},
        }
        document["Swarm"] |= {
            "DisableNatPortMap": True,
            "RelayClient": {"Enabled": False},
            "RelayService": {"Enabled": False},
            "Transports": {"Network": transports},
        }
        file.write_text(json.dumps(document | settings), encoding="utf-8")
        (self.home / "swarm.key").write_text(self._swarm_key, encoding="utf-8")

    async def start(self) -> None:
        """Start it and return when its RPC answers."""
        with (self.home / "daemon.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                binary(), "daemon", env=self._environment(), stdout=log, stderr=log
            )
        async with asyncio.timeout(_START_SECONDS), aiohttp.ClientSession() as session:
            while not await self._answers(session):
                assert self._process.returncode is None, (self.home / "daemon.log").read_text(
                    encoding="utf-8"
                )
                await asyncio.sleep(0.05)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGKILL is a crash."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(how)
        async with asyncio.timeout(_STOP_SECONDS):
            await self._process.wait()

    def pause(self, paused: bool) -> None:
        """Have it hang, or go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if paused else signal.SIGCONT)

    async def run(self, *arguments: str) -> str:
        """The `ipfs` command on this repository; its output."""
        process = await asyncio.create_subprocess_exec(
            binary(),
            *arguments,
            env=self._environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(_START_SECONDS):
            output, error = await process.communicate()
        assert process.returncode == 0, error.decode()
        return output.decode()

    async def pins(self) -> set[str]:
        """Recursively pinned roots."""
        return set((await self.run("pin", "ls", "--type=recursive", "--quiet")).split())

    async def blocks(self) -> set[str]:
        """CIDs of all blocks on its disk, as raw blocks."""
        return set((await self.run("refs", "local")).split())

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.post(f"http://{self.rpc_address}/api/v0/id") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "IPFS_PATH": str(self.home),
            "IPFS_TELEMETRY": "off",
            "LIBP2P_FORCE_PNET": "1",
        }
