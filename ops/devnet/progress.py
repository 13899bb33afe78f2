"""Shows what the network is doing, with the time of each step; silent for tests and `--json`."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn


class Progress(Protocol):
    """Where the steps of a start, mend or stop are told."""

    def step(self, title: str) -> AbstractContextManager[None]:
        """A step that lasts as long as the `with` block."""
        ...

    def note(self, text: str) -> None:
        """One sentence."""
        ...


class Silent:
    """Says nothing."""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Do the step."""
        yield

    def note(self, text: str) -> None:
        """Nothing."""


class Shown:
    """On a terminal: a live line for each running step. A line with its time for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            SpinnerColumn(finished_text=""),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Shown":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show the step while it lasts, then its time."""
        task = self._bars.add_task(escape(title), total=None)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self._bars.remove_task(task)
            self._console.print(f"  [red]✗[/]  {escape(title)}", highlight=False, soft_wrap=True)
            raise
        self._bars.remove_task(task)
        seconds = time.monotonic() - started
        self._console.print(
            f"  [green]✓[/]  {escape(title):<68} {seconds:5.1f} s", highlight=False, soft_wrap=True
        )

    def note(self, text: str) -> None:
        """Print the sentence."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)
