"""One group on its way through the pipeline, from its arrival to its one answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from services.gateway.domain.group import Key, Parsed
from services.runtime.batching import Waiting
from services.runtime.errors import MeshError

Receipts = list[RecordReceipt]
Answer = Receipts | MeshError


@dataclass(eq=False, slots=True)
class Submission:
    """A group, its contents, and whom to tell.

    size       bytes of all of it
    answer     called once, with receipts in order or the error that befell the whole
    caller     the authenticated identity that sent it; empty: whoever signed its first command
    ends_at    loop time at which its sender gives up: what is not in a batch by then is not done
    commands   as they were parsed
    keys       what makes it the same submission, whatever it says
    matched    contents by the index of their PutRecord
    followers  the same commands, sent again while these are under way
    place      in the queue for a batch, from when it has passed every check
    is_carried it may be on its way to the channel: nobody but the ledger can say what becomes of it
    since      when it arrived, by `perf_counter`
    span       what its batch links to; None when it is not sampled
    """

    group: CommandGroup
    contents: Sequence[Content]
    size: int
    answer: Callable[[Answer], None]
    caller: str = ""
    ends_at: float = math.inf
    commands: tuple[Parsed, ...] = ()
    keys: tuple[Key, ...] = ()
    matched: Mapping[int, Content] = field(default_factory=dict[int, Content])
    followers: list[Submission] = field(default_factory=list["Submission"])
    since: float = field(default_factory=perf_counter)
    span: SpanContext | None = None
    place: Waiting[Any, Receipts] | None = None
    is_carried: bool = False

    @property
    def may_happen(self) -> bool:
        """False when it is certain that nothing of it has been submitted."""
        return self.is_carried or (self.place is not None and self.place.taken)

    def withdraw(self) -> bool:
        """Its sender gives up. True when it is certain that nothing was done, and nothing will be."""
        self.ends_at = -math.inf
        if self.may_happen:
            return False
        if self.place is not None:
            self.place.cancel()
        return True

    def says_the_same(self, other: Submission) -> bool:
        """True when the commands are the same to the byte, signatures included."""
        return [parsed.signed for parsed in self.commands] == [parsed.signed for parsed in other.commands]
