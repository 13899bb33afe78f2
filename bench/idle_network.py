"""A quiet network before each measurement, and one without what a design does not need."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from bench.load.sampling import GENERATOR, PREPARING, Watch
from ops.devnet import processes

_QUIET_CORES = 0.25
_PATIENCE_SECONDS = 60.0


async def settled(home: Path) -> None:
    """Wait until what earlier runs left to do is done: projections, notifications, compaction."""
    watch = Watch(home)
    ends = time.monotonic() + _PATIENCE_SECONDS
    before = watch.sample()
    while time.monotonic() < ends:
        await asyncio.sleep(1.0)
        now = watch.sample()
        used = sum(
            seconds - before.cpu_seconds.get(name, 0.0)
            for name, seconds in now.cpu_seconds.items()
            if name not in (GENERATOR, PREPARING)
        )
        if used < _QUIET_CORES * (now.at - before.at):
            return
        before = now


@asynccontextmanager
async def paused(home: Path, services: Collection[str]) -> AsyncIterator[None]:
    """Services of every member stand still meanwhile, and go on afterwards: not for over 20 s."""
    found = [
        process
        for name, of_program in processes.of_network(home).items()
        for process in of_program
        if name.partition("-")[2] in services
    ]
    try:
        for process in found:
            process.suspend()
        yield
    finally:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
