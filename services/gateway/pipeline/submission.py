"""One group on its way through the pipeline, from its arrival to its one answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

from opentelemetry.trace import SpanContext

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.command.v1.state_pb2 import SealedKey, StoredContent
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from services.gateway.domain.group import Key, Parsed
from services.gateway.pipeline.client_quota import ClientQuota
from services.gateway.pipeline.refusal_quota import RefusalQuota
from services.runtime.batching import Waiting
from services.runtime.byte_budget import Held
from services.runtime.errors import MeshError
from services.runtime.tasks import settle

ACCESSES = frozenset({"access", "break_glass"})
"""Bodies of commands that ask to read."""

Kind = Literal["records", "access", "documents"]
Receipts = list[RecordReceipt]
Answer = Receipts | MeshError


@dataclass(eq=False, slots=True)
class Submission:
    """A group, its contents, and whom to tell.

    size        bytes of all of it
    answer      called once, with receipts in order or the error that befell the whole
    client      the authenticated sender, whose quota it counts against; None for a read
    signed_here the gateway's own device has just signed it: its signature is not verified again
    ends_at     loop time at which its sender gives up: what is not in a batch by then is not done
    held        what it takes of the client's memory: `size` of that is given back when it is answered
    span        what its batch links to; None when it is not sampled
    since       when it arrived, by `perf_counter`

    Found out on the way:

    commands    as they were parsed
    keys        signers and ids of the commands: whatever it says, it is the same submission
    followers   the same commands, sent again while these are under way
    matched     contents by the index of their PutRecord
    caller      address of the client; for a read of who signed it, or delegated it
    waiting     its item in the queue for a batch, from when it has passed every check
    stored      where its contents lie, by the index of their PutRecord, once they are sealed
    sealed_keys writer keys that its record's custodians do not have yet, sealed to them
    may_be_submitted  it may be on its way to the channel: nobody but the ledger can say what becomes of it
    """

    group: CommandGroup
    contents: Sequence[Content]
    size: int
    answer: Callable[[Answer], None]
    client: ClientQuota | None = None
    ends_at: float = math.inf
    signed_here: bool = False
    held: Held | None = None
    span: SpanContext | None = None
    since: float = field(default_factory=perf_counter)
    commands: tuple[Parsed, ...] = ()
    keys: tuple[Key, ...] = ()
    followers: list[Submission] = field(default_factory=list["Submission"])
    matched: Mapping[int, Content] = field(default_factory=dict[int, Content])
    caller: str = ""
    waiting: Waiting[Any, Receipts] | None = None
    stored: dict[int, StoredContent] = field(default_factory=dict[int, StoredContent])
    sealed_keys: list[SealedKey] = field(default_factory=list[SealedKey])
    may_be_submitted: bool = False

    @property
    def kind(self) -> Kind:
        """What it is about: which queue it waits in, and which series its time goes to."""
        if self.matched:
            return "records"
        return "access" if all(parsed.name in ACCESSES for parsed in self.commands) else "documents"

    @property
    def patient(self) -> str:
        """Whose record it writes first, if any: a caller's patients take turns too."""
        put = self.commands[0].put
        return "" if put is None else put.patient

    @property
    def may_happen(self) -> bool:
        """False when it is certain that nothing of it has been submitted."""
        return self.may_be_submitted or (self.waiting is not None and self.waiting.taken)

    def withdraw(self) -> bool:
        """Its sender gives up. True when it is certain that nothing was done, and nothing will be."""
        self.ends_at = -math.inf
        if self.may_happen:
            return False
        if self.waiting is not None:
            self.waiting.cancel()
        return True

    def says_the_same(self, other: Submission) -> bool:
        """True when the commands are the same to the byte, signatures included."""
        return [parsed.signed for parsed in self.commands] == [parsed.signed for parsed in other.commands]


def awaited(
    group: CommandGroup,
    contents: Sequence[Content],
    size: int,
    client: ClientQuota | None = None,
    ends_at: float = math.inf,
    charged: RefusalQuota | None = None,
) -> tuple[Submission, asyncio.Future[Receipts]]:
    """A submission, and the future of its receipts, which raises MeshError. Nobody has to wait for it.

    charged  what a refusal counts against, also when nobody waits for it
    """
    answer: asyncio.Future[Receipts] = asyncio.get_running_loop().create_future()
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())

    def told(result: Answer) -> None:
        if charged is not None:
            charged.note(code_of(result), len(group.commands))
        settle(answer, result)

    return Submission(group, contents, size, told, client, ends_at), answer


def code_of(answer: Answer) -> int:
    """A group's code is that of its first command."""
    return answer.code if isinstance(answer, MeshError) else answer[0].receipt.code


def too_late() -> MeshError:
    """Nothing was done in time."""
    return MeshError(
        code_pb2.CODE_DEADLINE_EXCEEDED,
        "the deadline passed before it was submitted, so nothing was done; send the same again",
        outcome=code_pb2.OUTCOME_NOT_DONE,
    )


def shutting_down() -> MeshError:
    """It was not begun."""
    return MeshError(code_pb2.CODE_UNAVAILABLE, "the gateway is shutting down; send again", "", 1_000)


def not_answered_in_time() -> MeshError:
    """It is on its way to the channel."""
    return MeshError(
        code_pb2.CODE_UNKNOWN_OUTCOME,
        "it is not answered yet and may be committed: send the same again, its id makes that harmless",
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )
