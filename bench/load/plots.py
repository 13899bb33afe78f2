"""A run as pictures: PNG, each with the load in its title, units on its axes and no more ink than needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.load.plan import GOOD, READ
from bench.load.report import report, seconds
from bench.load.sampling import GENERATOR, PREPARING
from bench.load.session import Ran
from bench.load.tally import quantile

INK, GREY, GRID = "#22303c", "#8a97a3", "#e3e8ec"
BLUE, ORANGE, GREEN, RED = "#1f6fb4", "#e07b1a", "#2e8b57", "#c0392b"
COLOURS = (BLUE, ORANGE, GREEN, RED, "#7d5ba6", "#8c6d46", "#d16ba5", "#5f9ea0", "#a3a326", "#30566f")
_MIB = 2**20
_BARS = 16
_MOST_LINES = 10


@contextmanager
def figure(file: Path, title: str, subtitle: str, size: tuple[float, float] = (9.0, 4.6)) -> Iterator[Any]:
    """One axes in the house style, saved to `file` at the end."""
    with figures(file, title, subtitle, size, (1.0,)) as axes:
        yield axes[0]


@contextmanager
def figures(
    file: Path, title: str, subtitle: str, size: tuple[float, float], heights: Sequence[float]
) -> Iterator[list[Any]]:
    """Axes below one another with `heights` in proportion, as `figure`; their time is the same."""
    # Takes a second, which every other command of the CLI would pay too.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    made, grid = plt.subplots(
        len(heights), figsize=size, dpi=120, layout="constrained", sharex=True, squeeze=False,
        height_ratios=heights,
    )  # fmt: skip
    axes = list(grid.flat)
    axes[0].set_title(title, loc="left", fontsize=13, fontweight="bold", color=INK, pad=26)
    axes[0].text(0, 1.02, subtitle, transform=axes[0].transAxes, fontsize=9, color=GREY, va="bottom")
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color(GREY)
        one.tick_params(colors=INK, labelsize=9)
        one.grid(True, color=GRID, linewidth=0.8)
        one.set_axisbelow(True)
    try:
        yield axes
        for one in axes:
            if one.get_legend_handles_labels()[0]:
                one.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=2)
        file.parent.mkdir(parents=True, exist_ok=True)
        made.savefig(file)
    finally:
        plt.close(made)


def draw(ran: Ran, folder: Path, prefix: str = "") -> list[Path]:
    """All plots of a run; the files."""
    return [
        _throughput(ran, folder / f"{prefix}throughput.png"),
        _latency(ran, folder / f"{prefix}latency.png"),
        _distribution(ran, folder / f"{prefix}latency-distribution.png"),
        _cpu(ran, folder / f"{prefix}cpu.png"),
        memory(
            folder / f"{prefix}memory.png",
            ran.load.title(),
            [(sample.at, sample.rss_bytes) for sample in ran.usage.samples],
        ),
    ]


def _throughput(ran: Ran, file: Path) -> Path:
    lines = list(seconds(ran.tally))
    with figure(file, "Records and reads done in each second", ran.load.title()) as axes:
        at = [line.second + 0.5 for line in lines]
        axes.axhline(ran.load.rate, color=GREY, linewidth=1.5, linestyle=(0, (5, 3)), label="asked")
        axes.plot(at, [line.done for line in lines], color=BLUE, linewidth=2, label="done")
        if any(line.refused for line in lines):
            axes.plot(at, [line.refused for line in lines], color=RED, linewidth=1.5, label="refused")
        axes.set_ylim(0, max(ran.load.rate, *(line.done for line in lines)) * 1.15)
        axes.set_xlim(0, len(lines))
        axes.set_xlabel("seconds since the start")
        axes.set_ylabel("a second")
    return file


def _latency(ran: Ran, file: Path) -> Path:
    lines = [line for line in seconds(ran.tally) if not math.isnan(line.p50_ms)]
    with figure(file, "Time from due to done, of what was due in each second", ran.load.title()) as axes:
        at = [line.second + 0.5 for line in lines]
        axes.fill_between(
            at, [line.p50_ms for line in lines], [line.p95_ms for line in lines], color="#dbe9f5"
        )
        for name, colour, values in (
            ("p99", RED, [line.p99_ms for line in lines]),
            ("p95", ORANGE, [line.p95_ms for line in lines]),
            ("p50", BLUE, [line.p50_ms for line in lines]),
        ):
            axes.plot(at, values, color=colour, linewidth=1.8, label=name)
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds since the start")
        axes.set_ylabel("milliseconds")
    return file


def _distribution(ran: Ran, file: Path) -> Path:
    with figure(file, "How long each took, from due to done", ran.load.title()) as axes:
        for kind, colour, what in ((GOOD, BLUE, "records"), (READ, GREEN, "reads")):
            values = sorted(value * 1000 for value in ran.tally.latencies_of(kind))
            if not values:
                continue
            axes.hist(values, bins=80, color=colour, alpha=0.75, label=f"{what}: {len(values):,}")
            for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
                at = quantile(values, share)
                axes.axvline(at, color=INK, linewidth=1, linestyle=(0, (2, 2)))
                axes.annotate(
                    f"{name} {at:,.0f}",
                    (at, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(3, -3),
                    textcoords="offset points",
                    rotation=90,
                    va="top",
                    fontsize=8,
                    color=INK,
                )
        axes.set_xlim(left=0)
        axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
        axes.set_xlabel("milliseconds")
        axes.set_ylabel("how many")
    return file


def _cpu(ran: Ran, file: Path) -> Path:
    result = report(ran)["cpu"]
    bars(
        file,
        "CPU of each process for one record or read",
        f"{ran.load.title()}; {result['us_per_operation_in_all']:,.0f} µs in all, "
        f"{result['cores_busy']:.2f} cores busy",
        result["us_per_operation"],
        "microseconds",
    )
    return file


def bars(file: Path, title: str, subtitle: str, values: dict[str, float], unit: str) -> None:
    """Horizontal bars, the largest on top; the smallest are summed up."""
    ordered = sorted(values.items(), key=lambda item: -item[1])
    shown = ordered[:_BARS]
    if len(ordered) > _BARS:
        shown.append((f"{len(ordered) - _BARS} others", sum(value for _, value in ordered[_BARS:])))
    shown.reverse()
    with figure(file, title, subtitle, (9.0, 1.5 + 0.27 * len(shown))) as axes:
        names = [name for name, _ in shown]
        colours = [_colour(name) for name in names]
        drawn = axes.barh(names, [value for _, value in shown], color=colours, height=0.72)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=4, fontsize=8, color=INK)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(unit)
        axes.margins(x=0.1)


def memory(
    file: Path, subtitle: str, samples: Sequence[tuple[float, Any]], title: str = "Memory of each process"
) -> Path:
    """Resident memory over time: `samples` are (seconds, bytes by program); the ten largest by name.

    What makes the load is drawn apart, below: it keeps all that it will check, and is no part of the mesh.
    """
    mesh, load = apart(samples)
    mesh = mesh[:_MOST_LINES]
    heights = (3.2, 1.0) if load else (1.0,)
    with figures(file, title, subtitle, (9.0, 6.4 if load else 5.2), heights) as axes:
        _memory_lines(axes[0], samples, mesh, COLOURS)
        axes[0].set_ylabel("MiB resident")
        if load:
            _memory_lines(axes[1], samples, load, (INK, GREY))
            axes[1].set_title(
                "What makes the load, on a scale of its own", loc="left", fontsize=9, color=GREY
            )
        axes[-1].set_xlabel("seconds since the start")
    return file


def apart(samples: Sequence[tuple[float, Any]]) -> tuple[list[str], list[str]]:
    """The mesh's programs and those that make the load, each the largest first."""
    names = sorted({name for _, by_name in samples for name in by_name})
    largest = sorted(names, key=lambda name: -max(by_name.get(name, 0) for _, by_name in samples))
    load = [name for name in largest if name in (GENERATOR, PREPARING)]
    return [name for name in largest if name not in load], load


def _memory_lines(
    axes: Any, samples: Sequence[tuple[float, Any]], names: Sequence[str], colours: Sequence[str]
) -> None:
    ends: list[tuple[float, str, str]] = []
    for name, colour in zip(names, colours, strict=False):
        at = [when for when, by_name in samples if name in by_name]
        values = [by_name[name] / _MIB for _, by_name in samples if name in by_name]
        axes.plot(at, values, color=colour, linewidth=1.6)
        ends.append((values[-1], name, colour))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, samples[-1][0] * 1.28)
    _label_ends(axes, samples[-1][0], ends)


def _label_ends(axes: Any, at: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """The lines' names at their ends, moved apart: a legend of ten would have to be matched by colour."""
    if not ends:
        return
    # As high as a line of text is.
    gap = axes.get_ylim()[1] * 11 / (axes.get_position().height * axes.figure.get_figheight() * 72)
    lowest = -math.inf
    for value, name, colour in sorted(ends):
        place = max(value, lowest + gap)
        axes.annotate(
            f"{name} {value:,.0f}", (at, value), (at * 1.015, place), fontsize=8, color=colour, va="center"
        )
        lowest = place


def _colour(name: str) -> str:
    if name.startswith("mercy"):
        return BLUE
    if name.startswith("lakeside"):
        return GREEN
    return ORANGE if name.startswith("ordering") else GREY
