"""A network under load: people gathered once, then any number of runs, each checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.load import check as checks
from bench.load import participants, run
from bench.load import reads as reading
from bench.load.check import Checked
from bench.load.participants import Cast
from bench.load.plan import GOOD, READ, Load
from bench.load.prepare import Recipe
from bench.load.prepared_queue import Stock
from bench.load.sampling import Usage, Watch
from bench.load.tally import Kept, Tally
from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from ops.demo.cast import Stage
from ops.devnet import first_administrator

_SEEDED = 2_000
_SEED_RATE = 400.0

Beside = Callable[[], Awaitable[None]]


@dataclass
class Show:
    """What is told while it goes on; each does nothing by default.

    people  so many more are there
    stage   what is being done, in a few words
    begun   the clock runs; the tally fills
    """

    people: Callable[[int], None] = lambda _: None
    stage: Callable[[str], None] = lambda _: None
    begun: Callable[[Tally, Watch], None] = lambda _tally, _watch: None


@dataclass
class Ran:
    """A run, what it took, and whether it stands."""

    load: Load
    tally: Tally
    usage: Usage
    checked: Checked = field(default_factory=Checked)


class Session:
    """`async with Session(home, load)`: whoever the load needs is there; then `run`."""

    def __init__(self, home: Path, load: Load, show: Show | None = None) -> None:
        self.home = home
        self.show = show or Show()
        self.stage = Stage.of(home, first_administrator.endpoints(home))
        self._load = load
        self._targets: list[Kept] = []

    async def __aenter__(self) -> Session:
        self.show.stage("authors and patients")
        async with AsyncExitStack() as clients:
            self.cast: Cast = await participants.gather(self.stage, self._load, clients, self.show.people)
            self._clients = clients.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.aclose()

    async def run(self, load: Load, sample: int, beside: Beside | None = None) -> Ran:
        """Apply the load and check it. Its people must be among the session's.

        beside  something else that goes on during the run and is cancelled at its end
        """
        if load.reads and not self._targets:
            self._targets = await self._seed(load)
        ran = await self._apply(load, beside)
        ran.checked = await self.check(ran.tally, sample)
        return ran

    async def check(self, tally: Tally, sample: int) -> Checked:
        """Look at every receipt; see `check`."""
        return await checks.check(self.stage, self.cast.patients, tally, sample, self.show.stage)

    async def _seed(self, load: Load) -> list[Kept]:
        """Records to be read, written and checked before the clock starts."""
        self.show.stage("writing what will be read")
        writes = replace(load, reads=0.0, bad=0.0, rate=_SEED_RATE, seconds=_SEEDED / _SEED_RATE)
        tally = (await self._apply(writes, None, quietly=True)).tally
        checked = await self.check(tally, 0)
        if checked.failures or not tally.stands:
            why = list(checked.failures) or tally.refused(GOOD)
            raise MeshError(code_pb2.CODE_UNAVAILABLE, f"there is nothing to read: {why}")
        return [tally.kept[number] for number in tally.stands]

    async def _apply(self, load: Load, beside: Beside | None, *, quietly: bool = False) -> Ran:
        tally = Tally(load)
        carriers, readers = self.cast.carriers[: load.streams], self.cast.readers[: load.users]
        await asyncio.gather(*(_logged_in(client) for client in (*carriers, *readers)))
        reads = [number for number in range(load.operations) if load.kind(number) == READ]
        records = load.operations - len(reads)
        async with Stock(self.recipe(load), records, load.streams) as stock:
            if not quietly:
                self.show.stage(f"signing {stock.before:,} records")
            await stock.fill()
            started = time.monotonic()
            clock = lambda: time.monotonic() - started  # noqa: E731 - the run's own clock
            watch = Watch(self.home, clock)
            if not quietly:
                self.show.stage("under load")
                self.show.begun(tally, watch)
            work = [run.send(load, carriers, stock.feeds, tally, clock)] if records else []
            if reads:
                readings = reading.Readings(readers, self._targets, tally, clock)
                work.append(run.read(load, reads, readings.chart, tally, clock))
            async with watch.over() as usage:
                others = [asyncio.create_task(stock.top_up())]
                if beside is not None:
                    others.append(asyncio.ensure_future(beside()))
                try:
                    await asyncio.gather(*work)
                finally:
                    for other in others:
                        other.cancel()
                    await asyncio.gather(*others, return_exceptions=True)
                tally.seconds = clock()
        return Ran(load, tally, usage)

    def recipe(self, load: Load) -> Recipe:
        """What preparing processes need to know; the start is theirs to say."""
        return Recipe(
            load,
            self.cast.carriers[0].wallet.consortium.signed_channel,
            self.cast.keys[: load.users],
            self.cast.outsider,
            [person.address for person in self.cast.patients[: max(load.patients, 1)]],
            start_ms=0,
        )


async def _logged_in(client: Client) -> None:
    """Before the clock starts, and not as the first record's share."""
    await client.connection.token()
