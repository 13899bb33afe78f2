"""What is taken and not answered yet: each is answered once, the same sent twice is done once, and a shutdown
waits for all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import RecordReceipt
from services.gateway.domain import group as rules
from services.gateway.domain import results
from services.gateway.domain.group import Key
from services.gateway.pipeline.submission import (
    Answer,
    Receipts,
    Submission,
    not_answered_in_time,
    shutting_down,
    too_late,
)
from services.runtime.batching import Waiting
from services.runtime.errors import MeshError, unexpected
from services.runtime.refusal import Refused


class InFlight:
    """Submissions under way.

    answered  called with each and its answer, before its sender hears it
    retry     takes those again that used the ids of another's commands, which were under way, for other ones
    """

    def __init__(
        self,
        answered: Callable[[Submission, Answer], None],
        retry: Callable[[Sequence[Submission]], None],
    ) -> None:
        self._answered = answered
        self._retry = retry
        self._open: set[Submission] = set()
        self._first: dict[tuple[Key, ...], Submission] = {}
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def size(self) -> int:
        """Bytes of all of them. May be asked in another thread."""
        return sum(one.size for one in list(self._open))

    def add(self, submissions: Sequence[Submission]) -> None:
        """From here on each of them is answered once."""
        self._open.update(submissions)
        self._none_open.clear()

    async def close(self) -> None:
        """Take nothing more, and return when all are answered."""
        self._closing = True
        await self._none_open.wait()

    def is_first(self, one: Submission) -> bool:
        """Parse it. False when it is answered already, or waits for the receipts of the same commands."""
        if self._closing:
            self.answer(one, shutting_down())
            return False
        try:
            one.commands = rules.parse(one.group)
        except Exception as error:  # noqa: BLE001 - it is this submission's answer, and nobody else's
            self.fail(one, error)
            return False
        one.keys = tuple(parsed.key for parsed in one.commands)
        first = self._first.setdefault(one.keys, one)
        # What becomes of the first becomes of it too.
        one.may_be_submitted = first is not one
        if first is not one:
            first.followers.append(one)
        return first is one

    def queued(self, one: Submission, waiting: Waiting[Submission, Receipts]) -> None:
        """What becomes of its item in a queue is its answer."""
        one.waiting = waiting

        def done(_: object) -> None:
            if waiting.cancelled():
                self.answer(one, not_answered_in_time() if waiting.taken else too_late())
            elif (error := waiting.exception()) is None:
                self.answer(one, waiting.result())
            else:
                self.fail(one, error)

        waiting.add_done_callback(done)

    def fail(self, one: Submission, error: BaseException) -> None:
        """Whatever was raised about it is its answer, and nobody else's."""
        if isinstance(error, Refused) and one.commands:
            self.answer(one, results.refused(one.commands, error))
        elif isinstance(error, MeshError):
            self.answer(one, error)
        else:
            self.answer(one, unexpected(error, "submission.crashed"))

    def answer(self, one: Submission, answer: Answer) -> None:
        """Tell its sender, and those who sent the same meanwhile. Only the first answer counts."""
        if one not in self._open:
            return
        self._open.discard(one)
        if self._first.get(one.keys) is one:
            del self._first[one.keys]
        if isinstance(answer, MeshError):
            # What was not said is told by how far it came.
            at_most = code_pb2.OUTCOME_UNKNOWN if one.may_happen else code_pb2.OUTCOME_NOT_DONE
            answer.outcome = answer.outcome or at_most
        if one.held is not None:
            one.held.give(one.size)
        try:
            self._answered(one, answer)
            one.answer(answer)
        finally:
            self._answer_followers(one, answer)
            if not self._open:
                self._none_open.set()

    def _answer_followers(self, one: Submission, answer: Answer) -> None:
        others: list[Submission] = []
        for follower in one.followers:
            if not isinstance(answer, MeshError) and follower.says_the_same(one):
                self.answer(follower, [_again(entry) for entry in answer])
            else:
                others.append(follower)
        if others:
            self._retry(others)


def _again(entry: RecordReceipt) -> RecordReceipt:
    """The receipt of a command that was sent twice at a time: the first one's, without the replicas."""
    again = RecordReceipt(receipt=entry.receipt)
    if entry.HasField("stored"):
        again.stored.CopyFrom(entry.stored)
    again.receipt.already_committed = bool(entry.receipt.tx_id)
    return again
