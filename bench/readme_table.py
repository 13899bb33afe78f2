"""The table: bar, aim, measured, met. Made from what was measured, and put into the documents by no hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


@dataclass(frozen=True)
class Line:
    """One measure of one run.

    value   the figure, in `unit`; None when it was not reached at all
    bar     what it has to be at least, or at most when `at_most`; None: nothing is asked of it
    note    said after the figure
    """

    measure: str
    value: float | None
    unit: str
    bar: float | None = None
    aim: float | None = None
    at_most: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """True when the bar is met; None when there is none."""
        return None if self.bar is None else self.reaches(self.bar)

    def reaches(self, goal: float) -> bool:
        """True when the value is at least (or at most) that."""
        if self.value is None:
            return False
        return self.value <= goal if self.at_most else self.value >= goal


def worst(lines: Sequence[Line]) -> Line:
    """Of the same measure in several runs, the one that counts. Raises ValueError for none."""
    if any(line.value is None for line in lines):
        return next(line for line in lines if line.value is None)
    pick = max if lines[0].at_most else min
    return pick(lines, key=lambda line: line.value or 0.0)


def markdown(runs: Sequence[Sequence[Line]]) -> str:
    """A Markdown table; `runs`: the lines of each run. Of several runs the worst counts, and each is told."""
    rows = ["| measure | bar | aim | measured | met |", "|---|---|---|---|---|"]
    for measure in dict.fromkeys(line.measure for run in runs for line in run):
        found = [line for run in runs for line in run if line.measure == measure]
        line = worst(found)
        each = ", ".join(figure(one.value, one.unit) for one in found)
        times = f" (worst of {len(found)}: {each})" if len(found) > 1 else ""
        rows.append(
            f"| {measure} | {_goal(line, line.bar)} | {_goal(line, line.aim)} "
            f"| {figure(line.value, line.unit)}{line.note and ', ' + line.note}{times} | {_met(line)} |"
        )
    return "\n".join(rows)


def short(runs: Sequence[Sequence[Line]]) -> str:
    """A Markdown table of what has a bar: the figure that counts, and the bar."""
    rows = ["| | measured | bar |", "|---|---|---|"]
    for measure in dict.fromkeys(line.measure for run in runs for line in run if line.bar is not None):
        line = worst([line for run in runs for line in run if line.measure == measure])
        rows.append(f"| {measure} | {figure(line.value, line.unit)} | {_goal(line, line.bar)} |")
    return "\n".join(rows)


def cpu_table(us_per_operation: dict[str, float], columns: int = 2) -> str:
    """CPU of each process for a record, the largest first, in `columns` columns of names and figures."""
    entries = [f"{name} | {value:,.0f}" for name, value in us_per_operation.items() if value >= 1]
    height = -(-len(entries) // columns)
    head = "| " + " | | ".join(["process | µs a record"] * columns) + " |"
    rows = [head, "|---|---" + "|---|---|---" * (columns - 1) + "|"]
    for row in range(height):
        cells = entries[row::height]
        rows.append("| " + " | | ".join(cells + [" | "] * (columns - len(cells))) + " |")
    return "\n".join(rows)


def rewritten(text: str, block: str) -> str:
    """The text with what lies between the marks replaced. Raises ValueError when a mark is missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the marks {BEGIN} and {END} must each be there once, in this order")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block.strip()}\n{END}{after}"


def figure(value: float | None, unit: str) -> str:
    """A figure as it reads: `1,000/s`, `350 ms`, `1.4 times`."""
    if value is None:
        return "not reached"
    number = f"{value:,.0f}" if abs(value) >= 20 or value == int(value) else f"{value:,.2g}"
    return f"{number}{'' if unit.startswith(('/', '%')) else ' '}{unit}"


def sentence(environment: dict[str, Any]) -> str:
    """On what it was measured."""
    machine = environment["machine"]
    return (
        f"Measured {environment['date']} at commit `{environment['commit']}` on {machine['cores']} cores "
        f"({machine['model'] or machine['system']}), {machine['memory_gib']} GiB, everything on it."
    )


def _goal(line: Line, goal: float | None) -> str:
    return "" if goal is None else f"{'≤ ' if line.at_most else '≥ '}{figure(goal, line.unit)}"


def _met(line: Line) -> str:
    if line.met is None:
        return ""
    if line.aim is not None and line.reaches(line.aim):
        return "aim met"
    return "yes" if line.met else "**no**"
