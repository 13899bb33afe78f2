"""What happens to a group, from its arrival to its receipts, and in which file:

    in_flight          parsed; waits for the same commands if they are under way
    checks             form, contents, signatures
    resubmissions      sent before? then its first receipts are the answer
    checks             times, status, contents
    batch_queues       waits for a batch
    batch_processor    sealed (backends/storage), submitted (backends/ledger)
    in_flight          answered, once

Up to the queues it can be refused, and then nothing is stored. Groups that arrive together are checked
together: who signed them is looked up once for all. What takes long about one of them (a look at what was
sent before, a large content) is done in a task of its own, and the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.gateway.v1.gateway_pb2 import Content
from services.gateway.fhir.large_contents import LARGE_BYTES
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.batch_queues import BatchQueues
from services.gateway.pipeline.checks import Checks, Facts
from services.gateway.pipeline.client_quota import ClientQuota
from services.gateway.pipeline.in_flight import InFlight
from services.gateway.pipeline.measurements import measured_by
from services.gateway.pipeline.refusal_quota import RefusalQuota
from services.gateway.pipeline.resubmissions import Resubmissions
from services.gateway.pipeline.submission import (
    Receipts,
    Submission,
    awaited,
    not_answered_in_time,
    too_late,
)
from services.runtime import tracing
from services.runtime.deadline import remaining_seconds
from services.runtime.errors import MeshError, copied, guarded

# Commands that are checked before everybody else has a turn: about 2 ms of signatures, 8 ms when they are one
# large group; and of contents 15 ms at most.
_TURN = 16
_TURN_BYTES = LARGE_BYTES
# Kept of a caller's deadline, so that it hears what is certain and what is not.
_ANSWER_SECONDS = 0.5


class Pipeline:
    """Takes groups. `async with` it: leaving waits for what is under way."""

    def __init__(
        self, checks: Checks, resubmissions: Resubmissions, queues: BatchQueues, metrics: GatewayMetrics
    ) -> None:
        self._checks = checks
        self._resubmissions = resubmissions
        self._queues = queues
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = in_flight = InFlight(
            measured_by(metrics), lambda submissions: self._spawn(self._run(submissions))
        )
        metrics.in_flight.set_function(lambda: len(in_flight))
        metrics.in_flight_bytes.set_function(lambda: in_flight.size)

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._in_flight.close()
        await self._queues.close()

    async def submit(
        self,
        group: CommandGroup,
        contents: Sequence[Content],
        size: int,
        client: ClientQuota | None = None,
        *,
        charged: RefusalQuota | None = None,
        signed_here: bool = False,
    ) -> Receipts:
        """Receipts in order, or MeshError: before the deadline of the RPC that is being answered, and it says
        what is certain. Whoever waits may go away: what is on its way goes on.

        client       of whose memory `size` bytes are taken until it is answered; None for a read
        charged      what a refusal counts against, whether anybody waits for it or not
        signed_here  the gateway's own device has just signed it
        """
        held = None if client is None else await client.hold_soon(size)
        left = remaining_seconds()
        kept = 0.0 if left is None else min(_ANSWER_SECONDS, left / 4)
        ends_at = math.inf if left is None else asyncio.get_running_loop().time() + left - kept
        one, answer = awaited(group, contents, size, client, ends_at, charged)
        one.held, one.span, one.signed_here = held, tracing.sampled(), signed_here
        self.start(one)
        try:
            async with asyncio.timeout_at(None if left is None else ends_at):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            raise too_late() if one.withdraw() else not_answered_in_time() from error

    def start(self, *submissions: Submission) -> None:
        """Begin with some that came together. Each is answered by itself, and only once."""
        self._in_flight.add(submissions)
        self._spawn(self._run(submissions))

    async def _run(self, submissions: Sequence[Submission]) -> None:
        own = [*submissions]
        try:
            await guarded(self._check(own), "submissions.crashed")
        except MeshError as err:
            # Before any of them was checked: nobody could say who signed them.
            for one in own:
                self._in_flight.answer(one, copied(err))

    async def _check(self, own: list[Submission]) -> None:
        # Those that wait for another's receipts are that one's, and may be on their way again meanwhile.
        own[:] = first = [one for one in own if self._in_flight.is_first(one)]
        facts = await self._checks.facts(first)
        suspects: list[Submission] = []

        def authenticate(one: Submission) -> None:
            self._checks.authenticate(one, facts)
            if self._resubmissions.is_suspect(one):
                suspects.append(one)
            else:
                self._go_on(one, facts)

        for turn in _turns(first):
            with self._metrics.stage("check"):
                for one in turn:
                    self._attempt(authenticate, one)
            await asyncio.sleep(0)
        if suspects:
            self._spawn(self._look_up(suspects, facts))

    async def _look_up(self, suspects: Sequence[Submission], facts: Facts) -> None:
        """Those that may have been sent before, together. Meanwhile nobody knows what became of that."""
        for one in suspects:
            one.may_be_submitted = True
        try:
            found = await guarded(self._resubmissions.find(suspects), "submissions.crashed")
        except MeshError as err:
            err.outcome = code_pb2.OUTCOME_UNKNOWN
            for one in suspects:
                self._in_flight.answer(one, copied(err))
            return
        for one, receipts in zip(suspects, found, strict=True):
            await asyncio.sleep(0)
            one.may_be_submitted = False
            if receipts is None:
                self._attempt(lambda one: self._go_on(one, facts), one)
            else:
                self._metrics.replays.inc()
                self._in_flight.answer(one, receipts)

    def _go_on(self, one: Submission, facts: Facts) -> None:
        """With one that was not sent before."""
        self._checks.permit(one, facts)
        if one.size > LARGE_BYTES:
            self._spawn(self._check_large(one))
        else:
            self._checks.check_contents(one)
            self._queue(one)

    async def _check_large(self, one: Submission) -> None:
        try:
            await self._checks.check_large_contents(one)
            self._queue(one)
        except Exception as error:  # noqa: BLE001 (as below)
            self._in_flight.fail(one, error)

    def _queue(self, one: Submission) -> None:
        if asyncio.get_running_loop().time() >= one.ends_at:
            raise too_late()
        self._resubmissions.note(one.commands)
        self._in_flight.queued(one, self._queues.put(one))

    def _attempt(self, step: Callable[[Submission], None], one: Submission) -> None:
        """Whatever the step raises is this submission's answer, and nobody else's."""
        try:
            step(one)
        except Exception as error:  # noqa: BLE001 (as `guarded`, without a coroutine for each)
            self._in_flight.fail(one, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """In a context of its own: it belongs to no caller's deadline. Its span goes with the submission."""
        task = asyncio.create_task(work, name="submissions", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _turns(submissions: Sequence[Submission]) -> Iterator[list[Submission]]:
    """Few enough at a time that nobody waits for long meanwhile; what is large is only begun in its turn."""
    turn: list[Submission] = []
    commands = size = 0
    for one in submissions:
        turn.append(one)
        commands += max(1, len(one.commands))
        size += one.size if one.size <= LARGE_BYTES else 0
        if commands >= _TURN or size >= _TURN_BYTES:
            yield turn
            turn, commands, size = [], 0, 0
    if turn:
        yield turn
