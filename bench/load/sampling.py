"""CPU and memory of every process of the network and of the generator, from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ops.devnet import processes

GENERATOR, PREPARING = "generator", "generator (preparing)"


@dataclass(frozen=True)
class Sample:
    """At `at` seconds after the start: CPU seconds so far and resident bytes, by program."""

    at: float
    cpu_seconds: Mapping[str, float]
    rss_bytes: Mapping[str, int]


@dataclass
class Usage:
    """What a run took.

    cpu_seconds  by program, from first sample to last
    samples      over time
    busy_share   of all cores, by anybody: what else the machine was doing shows here
    """

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    busy_share: float = 0.0

    @property
    def cores_busy(self) -> float:
        """Cores that the network and the generator kept busy on average."""
        return sum(self.cpu_seconds.values()) / self.seconds if self.seconds else 0.0

    def others_share(self) -> float:
        """Share of the machine's cores that somebody else used meanwhile."""
        return max(self.busy_share - self.cores_busy / (psutil.cpu_count() or 1), 0.0)


class Watch:
    """Samples the processes of the network at `home`, and this one with its children."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._home = home
        self._clock = clock
        self._found = {
            name: found for name, found in processes.of_network(home).items() if name != processes.SUPERVISOR
        }
        # A program of the network may be a child of this process.
        self._counted = {process for found in self._found.values() for process in found}
        self._own = psutil.Process()
        self._last: dict[psutil.Process, float] = {}

    def sample(self) -> Sample:
        """Now."""
        cpu: dict[str, float] = {}
        rss: dict[str, int] = {}
        for name, process in self._all():
            with contextlib.suppress(psutil.Error):
                with process.oneshot():
                    times, memory = process.cpu_times(), process.memory_info()
                self._last[process] = times.user + times.system
                cpu[name] = cpu.get(name, 0.0) + self._last[process]
                rss[name] = rss.get(name, 0) + memory.rss
        own = self._own.cpu_times()
        cpu[PREPARING] = cpu.get(PREPARING, 0.0) + own.children_user + own.children_system
        return Sample(self._clock(), cpu, rss)

    def _all(self) -> Iterator[tuple[str, psutil.Process]]:
        for name, found in sorted(self._found.items()):
            for process in found:
                yield name, process
        yield GENERATOR, self._own
        for child in self._own.children(recursive=True):
            if child not in self._counted:
                yield PREPARING, child

    @asynccontextmanager
    async def over(self, every_seconds: float = 1.0) -> AsyncIterator[Usage]:
        """Sample for as long as the block takes; the Usage is filled in at its end."""
        usage = Usage()
        psutil.cpu_percent()
        usage.samples.append(self.sample())
        task = asyncio.create_task(self._keep_on(usage, every_seconds))
        try:
            yield usage
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            usage.samples.append(self.sample())
            usage.busy_share = psutil.cpu_percent() / 100
            first, last = usage.samples[0], usage.samples[-1]
            usage.seconds = last.at - first.at
            usage.cpu_seconds = {
                name: round(max(seconds - first.cpu_seconds.get(name, 0.0), 0.0), 4)
                for name, seconds in last.cpu_seconds.items()
            }

    async def _keep_on(self, usage: Usage, every_seconds: float) -> None:
        while True:
            await asyncio.sleep(every_seconds)
            usage.samples.append(self.sample())


def grown_bytes_per_minute(samples: list[tuple[float, float]], after_seconds: float = 60.0) -> float:
    """Slope of a straight line through (seconds, bytes), after the first minute; 0 for fewer than two."""
    points = [(at, value) for at, value in samples if at >= after_seconds]
    if len(points) < 2:
        return 0.0
    mean_at = sum(at for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at - mean_at) ** 2 for at, _ in points)
    return 60 * sum((at - mean_at) * (value - mean) for at, value in points) / spread if spread else 0.0
