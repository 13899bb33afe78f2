"""`cbmdhi trace`: one record's way through the mesh, from what the members' collectors received."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cbmdhi.cli import prefixes, shared
from cbmdhi.cli.exits import Failure
from cbmdhi.cli.home import command_for
from cbmdhi.cli.shared import HomeOption, JsonOption, console
from ops.cli.network import guarded_network
from ops.devnet import collected_traces
from ops.devnet.collected_traces import Node, Span
from ops.devnet.layout import home_at

_LISTED = 20
_WHOLE = re.compile(r"[0-9a-f]{32}")
# A program sends its spans once a second.
_QUIET_SECONDS = 1.5
_LONGEST_SECONDS = 10.0
_LOOK_SECONDS = 0.3


def trace(
    trace_id: Annotated[
        str,
        typer.Argument(
            help="As `cbmdhi put --trace` prints it, or its beginning; without it, the newest are listed."
        ),
    ] = "",
    newest: Annotated[
        str, typer.Option(help="The newest that begins with this, such as record, instead of an id.")
    ] = "",
    home: HomeOption = shared.DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show one trace as a tree with times, over all programs of all members (`cbmdhi up --traced`).

    Examples:

        cbmdhi trace

        cbmdhi trace --newest record

        cbmdhi trace 4bf92f35 --json
    """
    # Refuses a folder that no network can be in.
    guarded_network(lambda: home_at(home), home)
    if newest:
        trace_id = _newest(home, newest)
    elif trace_id and not _WHOLE.fullmatch(trace_id):
        trace_id = prefixes.resolved(trace_id, {one.trace_id for one in read(home)}, "trace that has arrived")
    if not trace_id:
        _list(home, as_json)
        return
    roots = settled(home, trace_id)
    if not roots:
        traced = command_for(home, "up", "--traced")
        raise Failure(
            "NOT_FOUND", f"no span of {trace_id} has arrived", next_steps=[f"is the network traced? {traced}"]
        )
    if as_json:
        print(json.dumps([asdict(root) for root in roots]))
        return
    for line in collected_traces.lines(roots):
        console.print(line, markup=False, soft_wrap=True)


def files(home: Path) -> list[Path]:
    """What the members' collectors wrote, the files before included."""
    found = home_at(home)
    folders = [found.organisation(member).collector for member in found.members]
    return [file for folder in folders for file in sorted(folder.glob("traces*.jsonl"))]


def read(home: Path) -> list[Span]:
    """Every span that is kept."""
    return collected_traces.read(files(home))


def settled(home: Path, trace_id: str) -> list[Node]:
    """The trace once no more of it arrives; empty when nothing does."""
    ends_at = time.monotonic() + _LONGEST_SECONDS
    roots: list[Node] = []
    count, since = 0, time.monotonic()
    while time.monotonic() < ends_at:
        roots = collected_traces.tree(read(home), trace_id)
        found = sum(1 for root in roots for _ in root.walk())
        if found != count:
            count, since = found, time.monotonic()
        elif count and time.monotonic() - since > _QUIET_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
    return roots


def _newest(home: Path, name: str) -> str:
    found = [one for one in read(home) if one.name == name and not one.parent_id]
    if not found:
        what_has = f"what has: {command_for(home, 'trace')}"
        raise Failure("NOT_FOUND", f"no trace that begins with {name} has arrived", next_steps=[what_has])
    return max(found, key=lambda one: one.end_ns).trace_id


def _list(home: Path, as_json: bool) -> None:
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in read(home):
        by_trace[span.trace_id].append(span)
    newest = sorted(by_trace.values(), key=lambda several: -max(one.end_ns for one in several))[:_LISTED]
    rows = [_row(several) for several in newest]
    if as_json:
        print(json.dumps(rows))
        return
    table = shared.table("trace", "begins with", "program", "ms", "spans", "errors")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    if not rows:
        console.print(f"no trace has arrived ({command_for(home, 'up', '--traced')})", soft_wrap=True)
        return
    console.print(table)


def _row(spans: list[Span]) -> dict[str, str | int | float]:
    first = min(spans, key=lambda one: one.start_ns)
    milliseconds = (max(one.end_ns for one in spans) - first.start_ns) / 1e6
    return {
        "trace": first.trace_id,
        "name": first.name,
        "program": first.program,
        "milliseconds": round(milliseconds, 1),
        "spans": len(spans),
        "errors": sum(1 for one in spans if one.error),
    }
