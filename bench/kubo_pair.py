"""A pair of Kubo nodes as the network's own are, for a measurement that shall leave nothing in those."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from bench import extra_processes
from ops.devnet import health, kubo, ports, processes
from ops.devnet.commands import environment
from ops.devnet.layout import Home
from ops.devnet.topology import MEMBERS, Ports, program_name

_START_SECONDS = 30.0


@asynccontextmanager
async def running(network: Path) -> AsyncIterator[Mapping[str, str]]:
    """URL of each node's RPC by member. Repositories, keys and ports are new, and gone afterwards.

    They lie on the disk of the network at `network` and bear its mark: a Watch counts them as
    `mercy-ipfs-alone`, and `make down` ends what an interrupted measurement left.

    Raises:
        DevnetError: no ports are free, a tool is missing, or a node ended or does not answer (NotReady).
    """
    with tempfile.TemporaryDirectory(prefix="kubo-alone-", dir=network) as made:
        home = Home(Path(made))
        block = await asyncio.to_thread(_make, home)
        async with AsyncExitStack() as stack:
            started = {member: _start(home, member, network) for member in MEMBERS}
            for process in started.values():
                stack.push_async_callback(asyncio.to_thread, extra_processes.end, process)
            for member, process in started.items():
                name = program_name(member, "ipfs")
                ready = partial(_answers, name, block)
                await asyncio.to_thread(
                    extra_processes.wait_ready, name, ready, process, home.log(member), _START_SECONDS
                )
            yield {member: f"http://{block.address(member, 'ipfs_rpc')}" for member in MEMBERS}


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


def _answers(name: str, block: Ports) -> bool:
    return health.ask(name, block).ready
