"""Traces as a collector's file exporter wrote them (OTLP in JSON, a line a message), put together and shown.

A batch is a trace of its own that links to what it carries. Seen from one record it belongs under it: so does
whatever the batch caused.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ERROR = 2
_NAME_WIDTH = 68


@dataclass(frozen=True)
class Span:
    """A span. `program` is `<namespace>/<service>`; `links` are ids of the spans that it was made for."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    program: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[str, ...]
    error: str

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e6


@dataclass(frozen=True)
class Node:
    """A span and what was done under it, in the order of its beginning."""

    span: Span
    children: tuple[Node, ...]

    def walk(self) -> Iterator[Node]:
        """Itself and all below."""
        yield self
        for child in self.children:
            yield from child.walk()


def read(files: Iterable[Path]) -> list[Span]:
    """All spans in the files; a line that is still being written is passed over."""
    spans: list[Span] = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                document = json.loads(line)
            except json.JSONDecodeError:
                continue
            spans.extend(_spans(document))
    return spans


def tree(spans: Iterable[Span], trace_id: str) -> list[Node]:
    """The trace's roots, batches below what they link to; empty when it is not there."""
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace_id].append(span)
    linking: dict[str, set[str]] = defaultdict(set)
    for span in (one for several in by_trace.values() for one in several):
        for link in span.links:
            linking[link].add(span.trace_id)
    included: dict[str, Span] = {}
    waiting = [trace_id]
    seen = set(waiting)
    while waiting:
        for span in by_trace.get(waiting.pop(), ()):
            included[span.span_id] = span
            new = linking[span.span_id] - seen
            seen |= new
            waiting += new
    return _nodes(included)


def _nodes(spans: dict[str, Span]) -> list[Node]:
    below: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans.values(), key=lambda one: one.start_ns):
        above = [span.parent_id, *span.links]
        below[next((one for one in above if one in spans and one != span.span_id), "")].append(span)

    def node(span: Span) -> Node:
        return Node(span, tuple(node(child) for child in below[span.span_id]))

    return [node(span) for span in below[""]]


def lines(roots: Sequence[Node]) -> list[str]:
    """The tree as text: name, program, milliseconds from the beginning, milliseconds taken, what it says."""
    if not roots:
        return []
    began = min(node.span.start_ns for node in roots)
    header = f"{'span':<{_NAME_WIDTH}} {'program':<20} {'at ms':>8} {'took ms':>8}"
    return [header, *(line for root in roots for line in _lines(root, began, "", ""))]


def _lines(node: Node, began: int, first: str, rest: str) -> Iterator[str]:
    span = node.span
    said = " ".join(
        f"{key.removeprefix('cbmdhi.')}={value}" for key, value in sorted(span.attributes.items())
    )
    error = f"  ✗ {span.error}" if span.error else ""
    name = first + span.name
    times = f"{(span.start_ns - began) / 1e6:8.1f} {span.milliseconds:8.1f}"
    yield f"{name:<{_NAME_WIDTH}} {span.program:<20} {times}  {said}{error}".rstrip()
    for place, child in enumerate(node.children):
        last = place == len(node.children) - 1
        yield from _lines(child, began, rest + ("└ " if last else "├ "), rest + ("  " if last else "│ "))


def _spans(document: dict[str, Any]) -> Iterator[Span]:
    for resource in document.get("resourceSpans", ()):
        about = _attributes(resource.get("resource", {}))
        service = str(about.get("service.name", "")).removeprefix("cbmdhi-")
        program = f"{about.get('service.namespace', '')}/{service}"
        for scope in resource.get("scopeSpans", ()):
            for one in scope.get("spans", ()):
                yield _span(one, program)


def _span(one: dict[str, Any], program: str) -> Span:
    status = one.get("status", {})
    failed = status.get("code") == _ERROR
    return Span(
        trace_id=one["traceId"],
        span_id=one["spanId"],
        parent_id=one.get("parentSpanId", ""),
        name=one["name"],
        program=program,
        start_ns=int(one["startTimeUnixNano"]),
        end_ns=int(one["endTimeUnixNano"]),
        attributes=_attributes(one),
        links=tuple(link["spanId"] for link in one.get("links", ())),
        error=(status.get("message") or "failed") if failed else "",
    )


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    # {"key": …, "value": {"stringValue": …}}: one field, named for its type.
    return {pair["key"]: next(iter(pair["value"].values()), None) for pair in of.get("attributes", ())}
