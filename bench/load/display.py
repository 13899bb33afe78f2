"""What a person sees while a run goes on."""

from __future__ import annotations

import math
import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bench.load.participants import people_of
from bench.load.plan import Load
from bench.load.sampling import GENERATOR, Watch
from bench.load.session import Show
from bench.load.tally import Tally, quantile

_LATEST = 2_000
_WINDOW_SECONDS = 3.0


class Display:
    """`with Display(console, load) as shown`, then hand `shown.show` to the session."""

    def __init__(self, console: Console, load: Load) -> None:
        self.show = Show(self._people, self._stage, self._begun)
        self._load = load
        self._people_there = 0
        self._text = ""
        self._began = time.monotonic()
        self._tally: Tally | None = None
        self._watch: Watch | None = None
        self._marks: deque[tuple[float, int, float]] = deque()
        self._plain = not console.is_terminal
        self._console = console
        self._live = Live(
            get_renderable=self._rendered, console=console, transient=True, refresh_per_second=4
        )

    def __enter__(self) -> Display:
        self._console.print(self._load.title())
        if not self._plain:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._plain:
            self._live.stop()

    def _people(self, more: int) -> None:
        before, self._people_there = self._people_there, self._people_there + more
        if self._plain and before // 500 < self._people_there // 500:
            self._console.print(f"  {self._people_there:,} of {people_of(self._load):,} people are there")

    def _stage(self, what: str) -> None:
        self._text, self._began = what, time.monotonic()
        if self._plain:
            self._console.print(f"  {what}")

    def _begun(self, tally: Tally, watch: Watch) -> None:
        self._tally, self._watch = tally, watch
        self._marks.clear()

    def _rendered(self) -> RenderableType:
        head = Text(f"{self._text} … {time.monotonic() - self._began:.0f} s")
        if self._tally is None:
            if self._people_there:
                head.append(f"   {self._people_there:,} of {people_of(self._load):,} there")
            return head
        return Group(head, self._table(self._tally))

    def _table(self, tally: Tally) -> Table:
        now, done = time.monotonic(), tally.committed + tally.read
        cpu = self._watch.sample().cpu_seconds[GENERATOR] if self._watch else 0.0
        self._marks.append((now, done, cpu))
        while now - self._marks[0][0] > _WINDOW_SECONDS:
            self._marks.popleft()
        since, before, cpu_before = self._marks[0]
        span = max(now - since, 0.001)
        latest = tally.latencies[max(tally.answered - _LATEST, 0) : tally.answered]
        answered = [value for value in latest if not math.isnan(value)]
        table = Table(box=None, pad_edge=False)
        row: list[str] = []
        for title, value in (
            ("done", f"{done:,} of {self._load.operations:,}"),
            ("a second", f"{(done - before) / span:,.0f}"),
            ("p50", f"{quantile(answered, 0.5) * 1000:,.0f} ms"),
            ("p95", f"{quantile(answered, 0.95) * 1000:,.0f} ms"),
            ("in flight", f"{tally.in_flight:,}"),
            ("refused", f"{tally.answered - done:,}"),
            ("generator", f"{(cpu - cpu_before) / span:.0%} of a core"),
        ):
            table.add_column(title, justify="right", min_width=10)
            row.append(value)
        table.add_row(*row)
        return table
