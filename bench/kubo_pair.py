"""A pair of Kubo nodes as the network's own are, for a measurement that shall leave nothing in those."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from cbmdhi.devnet import health, kubo, ports, processes
from cbmdhi.devnet.commands import environment
from cbmdhi.devnet.layout import Home
from cbmdhi.devnet.topology import MEMBERS, Ports, program_name
from cbmdhi.devnet.waiting import until

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
                stack.push_async_callback(asyncio.to_thread, _end, process)
            for member, process in started.items():
                await asyncio.to_thread(_answers, member, block, process, home.log(member))
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


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        processes.end([psutil.Process(process.pid)])
        process.wait()


def _answers(member: str, block: Ports, process: subprocess.Popen[bytes], log: Path) -> None:
    name = program_name(member, "ipfs")
    until(
        lambda: health.ask(name, block).ready,
        lambda: f"An answer of the measurement's {name}",
        _START_SECONDS,
        remedy=lambda: _last_words(log),
        give_up=lambda: None if process.poll() is None else f"The measurement's {name} ended at once.",
    )


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
