"""What is told of a drill, line by line with times, and the table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PROBLEM_SIGNS = 100


@dataclass
class Outcome:
    """What became of a drill. Seconds: from the fault to the alert, and from mending to its end.

    problem  why it failed; empty: it was followed to its end
    """

    alert: str
    fired: float | None = None
    gone: float | None = None
    problem: str = ""


class Account:
    """Lines with the seconds since the drill began."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def begin(self, title: str) -> None:
        """A drill begins."""
        self._began = time.monotonic()
        self._console.print(f"\n[bold]{escape(title)}[/]", soft_wrap=True)

    def tell(self, what: str, detail: str = "", colour: str = "default") -> None:
        """What happened now."""
        lines = detail.splitlines() or [""]
        passed = time.monotonic() - self._began
        self._console.print(
            f"  {passed:6.1f} s  [{colour}]{escape(what):<8}[/] {escape(lines[0])}", soft_wrap=True
        )
        for line in lines[1:]:
            self._console.print(f"{'':21}{escape(line)}", soft_wrap=True)

    def conclude(self, outcomes: Sequence[Outcome], elsewhere: Sequence[str], seconds: float) -> None:
        """The table of all."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("runbook")
        table.add_column("fired after", justify="right")
        table.add_column("ended after", justify="right")
        table.add_column("")
        for one in outcomes:
            said = (
                f"[red]✗ {escape(one.problem[:_PROBLEM_SIGNS])}[/]" if one.problem else "[green]✓[/] followed"
            )
            table.add_row(one.alert, _seconds(one.fired), _seconds(one.gone), said)
        self._console.print("", table, "")
        for alert in elsewhere:
            self._console.print(f"{alert} is followed by `make k8s-run`.", soft_wrap=True)
        failed = sum(bool(one.problem) for one in outcomes)
        verdict = f"[red]{failed} of {len(outcomes)} failed[/]" if failed else "[green]all were followed[/]"
        self._console.print(f"{len(outcomes)} drills in {seconds:.0f} s: {verdict}.")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
