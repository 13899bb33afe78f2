"""A dashboard as a picture, from the same queries: what its panels would show in Grafana."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.load.plots import COLOURS, GREY, GRID, INK
from ops.observe.panels import Dashboard, Panel, Query
from ops.observe.prometheus import Prometheus, windowed

_ACROSS = 2
_MOST_LINES = 10
_STEP_SECONDS = 2.0
# Short, since what is drawn is short: five scrapes.
_WINDOW = "10s"
# Room above the lines for the legend.
_HEADROOM = 1.4
_UNITS = {"reqps": "1/s", "short": "", "percentunit": "share", "bool": "0 or 1"}

Line = tuple[str, Sequence[tuple[float, float]]]


async def draw(
    prometheus: Prometheus, dashboard: Dashboard, file: Path, start: float, end: float, under: str
) -> Path:
    """Query every panel from `start` to `end` (Unix seconds) and draw them into one PNG.

    under  which load, in a few words
    """
    lines = [
        [line for query in panel.queries for line in await _lines(prometheus, query, start, end)]
        for panel in dashboard.panels
    ]
    _picture(dashboard, lines, file, start, under)
    return file


async def _lines(prometheus: Prometheus, query: Query, start: float, end: float) -> list[Line]:
    found = await prometheus.query_range(windowed(query.expr, _WINDOW), start, end, _STEP_SECONDS)
    return [(named(query.legend, sample.labels), sample.values) for sample in found]


def named(legend: str, labels: Mapping[str, str]) -> str:
    """A legend such as `{{organisation}} p95` with the labels filled in."""
    for name in ("organisation", *labels):
        legend = legend.replace(f"{{{{{name}}}}}", labels.get(name, ""))
    return legend.strip()


def _picture(
    dashboard: Dashboard, lines: Sequence[Sequence[Line]], file: Path, start: float, under: str
) -> None:
    # Takes a second, which only whoever draws has to pay.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(dashboard.panels) // _ACROSS)
    made, grid = plt.subplots(
        rows, _ACROSS, figsize=(13, 2.9 * rows), dpi=100, layout="constrained", squeeze=False
    )
    try:
        title = f"{dashboard.title}\nunder {under}"
        made.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
        places = list(grid.flat)
        for axes, panel, shown in zip(places, dashboard.panels, lines, strict=False):
            _axes(axes, panel, shown, start)
        for axes in places[len(dashboard.panels) :]:
            axes.set_visible(False)
        file.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(file)
    finally:
        plt.close(made)


def _axes(axes: Any, panel: Panel, lines: Sequence[Line], start: float) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_ylabel(_UNITS.get(panel.unit, panel.unit), fontsize=8, color=GREY)
    axes.set_xlabel("seconds", fontsize=8, color=GREY)
    # What happened, if anything did, and of that the busiest: a picture with forty lines shows none.
    lines = [line for line in lines if any(value > 0 for _, value in line[1])] or lines
    busiest = sorted(
        lines, key=lambda line: -max((value for _, value in line[1] if value == value), default=0.0)
    )
    for number, (name, points) in enumerate(sorted(busiest[:_MOST_LINES])):
        axes.plot(
            [at - start for at, _ in points],
            [value for _, value in points],
            label=name,
            color=COLOURS[number % len(COLOURS)],
            linewidth=1.4,
        )
    axes.set_ylim(0, _HEADROOM * max(axes.get_ylim()[1], 1e-9))
    if lines:
        axes.legend(frameon=False, fontsize=7, labelcolor=INK, loc="upper left", ncols=2)
