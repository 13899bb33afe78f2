"""A pair of Kubo nodes as the network's own are, for a measurement that shall leave nothing in those."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import psutil

from cbmdhi.devnet import kubo, ports, processes
from cbmdhi.devnet.commands import environment
from cbmdhi.devnet.layout import Home
from cbmdhi.devnet.topology import MEMBERS, Ports, program_name

_START_SECONDS = 30.0


class DidNotStart(Exception):
    """A node ended at once, or does not answer; with the last that it said."""


@asynccontextmanager
async def running(network: Path) -> AsyncIterator[Mapping[str, str]]:
    """URL of each node's RPC by member. Repositories, keys and ports are new, and gone afterwards.

    They lie on the disk of the network at `network` and bear its mark: a Watch counts them as
    `mercy-ipfs-alone`, and `make down` ends what an interrupted measurement left.

    Raises:
        DidNotStart: see there.
        DevnetError: no ports are free, or a tool is missing.
    """
    with tempfile.TemporaryDirectory(prefix="kubo-alone-", dir=network) as made:
        home = Home(Path(made))
        block = await asyncio.to_thread(_make, home)
        async with AsyncExitStack() as stack:
            for member in MEMBERS:
                process = _start(home, member, network)
                stack.push_async_callback(asyncio.to_thread, _end, process)
            rpcs = {member: f"http://{block.address(member, 'ipfs_rpc')}" for member in MEMBERS}
            for member, rpc in rpcs.items():
                await _answers(rpc, home.log(member))
            yield rpcs


def _make(home: Home) -> Ports:
    kubo.make(home)
    block = ports.choose(home.path, None)
    kubo.configure(home, block)
    return block


def _start(home: Home, member: str, network: Path) -> subprocess.Popen[bytes]:
    program = kubo.program(home, member)
    marks = processes.marks(network, f"{program_name(member, 'ipfs')}-alone")
    with home.log(member).open("wb") as log:
        return subprocess.Popen(
            [str(part) for part in program.argv],
            env=environment({**program.env, **marks}),
            cwd=program.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        processes.end([psutil.Process(process.pid)])
        process.wait()


async def _answers(rpc: str, log: Path) -> None:
    ends = time.monotonic() + _START_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as http:
        while time.monotonic() < ends:
            try:
                async with http.post(f"{rpc}/api/v0/id") as answer:
                    if answer.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.1)
    raise DidNotStart(f"a Kubo node of the measurement does not answer:\n{_last_words(log)}")


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
