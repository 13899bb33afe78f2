"""Long lists as a person reads them: a page at a time, and what is alike together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Annotated, Generic, TypeVar

import typer

from cbmdhi.errors import Misuse

T = TypeVar("T")

ROWS = 20

PageOption = Annotated[int, typer.Option("--page", min=1, help="Which page; 1 is the newest.")]
RowsOption = Annotated[int, typer.Option("--rows", min=1, max=100_000, help="Rows of a page.")]
EachOption = Annotated[bool, typer.Option("--each", help="A row for each, also of those that are alike.")]
RecordOption = Annotated[str, typer.Option("--record", help="Only of this record: its id, or its beginning.")]
WhoOption = Annotated[str, typer.Option("--who", help="Only by this address, or its beginning.")]


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page of groups. `number` of `of`, both from 1."""

    groups: Sequence[Sequence[T]]
    number: int
    of: int

    @property
    def entries(self) -> list[T]:
        """All that is on it."""
        return [entry for group in self.groups for entry in group]

    def more(self) -> str:
        """What is said under a page that is not the last; empty under the last."""
        if self.number == self.of:
            return ""
        return f"page {self.number} of {self.of}; the next: --page {self.number + 1}"


def page(entries: Sequence[T], alike: Callable[[T], Hashable] | None, number: int, rows: int) -> Page[T]:
    """One page of a list that is in order.

    alike  neighbours with the same of it are one row; None: each is a row

    Raises Misuse for a page that there is not.
    """
    groups = [[entry] for entry in entries]
    if alike is not None:
        groups = [list(together) for _, together in groupby(entries, alike)]
    start, pages = (number - 1) * rows, max(1, -(-len(groups) // rows))
    if number > pages:
        raise Misuse(f"there is no page {number}: the last is {pages}", "page")
    return Page(groups[start : start + rows], number, pages)


def when(at_ms: int) -> str:
    """A time in Unix ms as text, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def whens(at_ms: Sequence[int]) -> str:
    """The time of a group: one, or from when until when."""
    first, last = when(min(at_ms)), when(max(at_ms))
    if first == last:
        return first
    return f"{first} – {last[11:] if first[:10] == last[:10] else last}"


def together(ids: Sequence[str], noun: str, short: Callable[[str], str]) -> str:
    """The id that a group is about, or how many they are."""
    several = {one for one in ids if one}
    if len(several) > 1:
        return f"{len(several)} {noun}s"
    return short(several.pop()) if several else ""
