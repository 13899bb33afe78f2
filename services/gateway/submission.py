"""One group on its way through the pipeline, from its arrival to its one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from services.gateway.domain.group import Key, Parsed
from services.runtime.errors import MeshError

Receipts = list[RecordReceipt]
Answer = Receipts | MeshError


@dataclass(eq=False, slots=True)
class Submission:
    """A group, its contents, and whom to tell.

    size       bytes of all of it
    answer     called once, with receipts in order or the error that befell the whole
    commands   as they were parsed
    keys       what makes it the same submission, whatever it says
    matched    contents by the index of their PutRecord
    followers  the same commands, sent again while these are under way
    since      when it arrived, by `perf_counter`
    span       what its batch links to; None when it is not sampled
    """

    group: CommandGroup
    contents: Sequence[Content]
    size: int
    answer: Callable[[Answer], None]
    commands: tuple[Parsed, ...] = ()
    keys: tuple[Key, ...] = ()
    matched: Mapping[int, Content] = field(default_factory=dict[int, Content])
    followers: list[Submission] = field(default_factory=list["Submission"])
    since: float = field(default_factory=perf_counter)
    span: SpanContext | None = None

    def says_the_same(self, other: Submission) -> bool:
        """True when the commands are the same to the byte, signatures included."""
        return [parsed.signed for parsed in self.commands] == [parsed.signed for parsed in other.commands]
