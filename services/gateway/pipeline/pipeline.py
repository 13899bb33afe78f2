"""What happens to a group, from its arrival to its receipts.

    parse → form → signatures → sent before? → standing → contents → seal → submit → let go of refused

Everything before `seal` can refuse, and then nothing is stored. Groups that arrive together are checked
together: who signed them is looked up once for all. What takes long about one of them (a look at what was
sent before, a large content) is done beside the others. A group that arrives while the same one is under
way waits for that one's receipts.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup, PutRecord
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from cbmdhi.protocol.channel import Channel
from services.gateway.domain import contents as content_rules
from services.gateway.domain import group as rules
from services.gateway.domain import results
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.group import Key
from services.gateway.domain.refusal import Refused
from services.gateway.fhir.large_contents import LARGE_BYTES, check_content
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.authenticator import Authenticator, Known
from services.gateway.pipeline.batch_processor import BatchProcessor, Prepared
from services.gateway.pipeline.resubmissions import Replays
from services.gateway.pipeline.submission import Answer, Receipts, Submission
from services.gateway.refusals import as_error
from services.runtime import tracing
from services.runtime.batching import MicroBatcher, Waiting
from services.runtime.byte_budget import Room
from services.runtime.deadline import remaining_seconds
from services.runtime.errors import MeshError, guarded, unexpected
from services.runtime.side_process import SideProcess
from services.runtime.telemetry import Metrics

# The contents of as many as fit into 16 MiB, and what surrounds them.
_BATCH_BYTES = 17 * 1024 * 1024
# Storage seals no more at once: a group of many records counts for as much of a batch as they do.
_BATCH_RECORDS = 1_000
_QUEUE = 100_000
# What a client's streams may have under way, and some more.
_QUEUE_OF_ONE = 25_000
# Groups that change documents: half of what the ledger puts into one transaction, of all clients in turn.
_DOCUMENTS_IN_FLIGHT = 200
# Commands that are checked before everybody else has a turn: about 2 ms of signatures, 8 ms when they are one
# large group; and of contents 15 ms at most.
_TURN = 16
_TURN_BYTES = LARGE_BYTES
# Kept of a caller's deadline, so that it hears what is certain and what is not.
_ANSWER_SECONDS = 0.5
_ACCESSES = frozenset({"access", "break_glass"})


@dataclass(frozen=True)
class Limits:
    """Of batches and of memory; see `GatewayConfig`."""

    batch_submissions: int
    linger_seconds: float
    batches_in_flight: int
    in_flight_bytes: int
    spacing_seconds: float = 0.0
    most_spacing_seconds: float = 0.0


class Pipeline:
    """Takes groups. `async with` it: leaving waits for what is under way."""

    def __init__(
        self,
        *,
        channel: Channel,
        members: Collection[str],
        authenticator: Authenticator,
        replays: Replays,
        checker: ResourceChecker,
        batches: BatchProcessor,
        metrics: GatewayMetrics,
        registry: Metrics,
        limits: Limits,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._channel = channel
        self._members = members
        self._authenticator = authenticator
        self._replays = replays
        self._checker = checker
        self._batches = batches
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._running: dict[tuple[Key, ...], Submission] = {}
        self._open: set[Submission] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()
        self._closing = False
        self.room = Room(limits.in_flight_bytes)
        """Take what a group needs before `start`."""
        metrics.in_flight.set_function(lambda: len(self._open))
        metrics.in_flight_bytes.set_function(lambda: sum(one.size for one in list(self._open)))
        self.aside = SideProcess(registry, name="check")
        """For what is large: the loop is everybody's."""
        self._sealing = self._batcher("seal", limits, registry)
        self._accesses = self._batcher("access", limits, registry)
        # One that changes documents may take its time: each goes alone, and holds up nobody.
        alone = replace(
            limits, batch_submissions=1, batches_in_flight=_DOCUMENTS_IN_FLIGHT, spacing_seconds=0.0
        )
        self._documents = self._batcher("document", alone, registry)

    def _batcher(self, name: str, limits: Limits, registry: Metrics) -> MicroBatcher[Prepared, Receipts]:
        return MicroBatcher(
            self._batches.process,
            max_count=limits.batch_submissions,
            max_bytes=_BATCH_BYTES,
            linger_seconds=limits.linger_seconds,
            spacing_seconds=limits.spacing_seconds,
            most_spacing_seconds=limits.most_spacing_seconds,
            max_queue=_QUEUE,
            max_per_caller=_QUEUE_OF_ONE,
            key_of=lambda prepared: (prepared.caller, prepared.patient),
            size_of=lambda prepared: max(
                prepared.size, len(prepared.contents) * -(-_BATCH_BYTES // _BATCH_RECORDS)
            ),
            max_in_flight=limits.batches_in_flight,
            metrics=registry,
            name=name,
        )

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        await self._none_open.wait()
        await asyncio.gather(*(queue.close() for queue in (self._sealing, self._accesses, self._documents)))
        await self.aside.__aexit__()

    async def submit(
        self,
        group: CommandGroup,
        contents: Sequence[Content],
        size: int,
        caller: str = "",
        done: Callable[[], None] = lambda: None,
    ) -> Receipts:
        """Receipts in order, or MeshError: before the deadline of the RPC that is being answered, and it says
        what is certain. Whoever waits may go away: what is on its way goes on, until `done` is called."""
        left = remaining_seconds()
        kept = 0.0 if left is None else min(_ANSWER_SECONDS, left / 4)
        ends_at = math.inf if left is None else asyncio.get_running_loop().time() + left - kept
        one, answer = self._begin(group, contents, size, caller, ends_at)
        answer.add_done_callback(lambda _: done())
        try:
            async with asyncio.timeout_at(None if left is None else ends_at):
                return await asyncio.shield(answer)
        except TimeoutError as error:
            raise _too_late() if one.withdraw() else _unknown() from error

    def start(self, group: CommandGroup, contents: Sequence[Content], size: int) -> asyncio.Future[Receipts]:
        """Begin; the future's result are receipts in order, or it raises MeshError."""
        return self._begin(group, contents, size, "", math.inf)[1]

    def _begin(
        self, group: CommandGroup, contents: Sequence[Content], size: int, caller: str, ends_at: float
    ) -> tuple[Submission, asyncio.Future[Receipts]]:
        answer: asyncio.Future[Receipts] = asyncio.get_running_loop().create_future()
        # Heard by whoever waits; nobody may.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        one = Submission(group, contents, size, lambda result: _settle(answer, result), caller, ends_at)
        one.span = tracing.sampled()
        self.start_all([one])
        return one, answer

    def start_all(self, submissions: Sequence[Submission]) -> None:
        """Begin with some that came together. Each is answered by itself, and only once."""
        self._open.update(submissions)
        self._none_open.clear()
        self._beside(self._take(submissions))

    async def _take(self, submissions: Sequence[Submission]) -> None:
        try:
            await guarded(self._check_all(submissions), "submissions.crashed")
        except MeshError as err:
            # Before any of them was checked: nobody could say who signed them.
            for one in submissions:
                self._answer(one, err.again())

    async def _check_all(self, submissions: Sequence[Submission]) -> None:
        fresh = [one for one in submissions if self._is_fresh(one)]
        known = await self._authenticator.known(one.commands for one in fresh)
        suspects: list[Submission] = []
        for turn in _turns(fresh):
            with self._metrics.stage("check"):
                for one in turn:
                    self._judge(one, known, suspects)
            await asyncio.sleep(0)
        if suspects:
            # Beside the others, which do not wait for it.
            self._beside(self._check_suspects(suspects, known))

    def _is_fresh(self, one: Submission) -> bool:
        """False when it was answered or will be by another's receipts."""
        if self._closing:
            why = MeshError(code_pb2.CODE_UNAVAILABLE, "the gateway is shutting down; send again", "", 1_000)
            self._answer(one, why)
            return False
        try:
            one.commands = rules.parse(one.group)
        except Refused as refused:
            self._answer(one, as_error(refused))
            return False
        one.keys = tuple(parsed.key for parsed in one.commands)
        first = self._running.setdefault(one.keys, one)
        # What becomes of the first becomes of it too.
        one.is_carried = first is not one
        if first is not one:
            first.followers.append(one)
        return first is one

    def _judge(self, one: Submission, known: Known, suspects: list[Submission]) -> None:
        """Check it; whatever that raises is the submission's answer, and nobody else's."""
        try:
            rules.check_form(one.commands, self._channel, self._members)
            one.matched = content_rules.match(one.commands, one.contents)
            self._authenticator.check_signatures(one.commands, known)
            if self._replays.is_suspect(one.commands, has_contents=bool(one.matched)):
                suspects.append(one)
            else:
                self._go_on(one, known)
        except Exception as error:  # noqa: BLE001 (as `guarded`, without a coroutine for each)
            self._fail(one, error)

    def _go_on(self, one: Submission, known: Known) -> None:
        """With one that was not sent before."""
        now_ms = self._clock_ms()
        self._authenticator.check_standing(one.commands, known, now_ms)
        for index in one.matched:
            try:
                rules.check_life_left(one.commands[index], now_ms)
            except Refused as why:
                raise why.at(index) from why
        if one.size > LARGE_BYTES:
            self._beside(self._check_large(one))
        else:
            self._check_contents(one)
            self._hand_on(one)

    async def _check_large(self, one: Submission) -> None:
        try:
            for index, content in one.matched.items():
                put = one.commands[index].put or PutRecord()
                try:
                    await self.aside.run(
                        check_content,
                        put.SerializeToString(),
                        content.SerializeToString(),
                        caller=one.caller,
                        size=len(content.content),
                        ends_at=one.ends_at,
                    )
                except Refused as why:
                    raise why.at(index) from why
            self._hand_on(one)
        except Exception as error:  # noqa: BLE001 (as above)
            self._fail(one, error)

    async def _check_suspects(self, suspects: Sequence[Submission], known: Known) -> None:
        """Those that may have been sent before, looked up together."""
        try:
            found = await guarded(self._replays.find(suspects), "submissions.crashed")
        except MeshError as err:
            # By this sending nothing was done; by an earlier one it may have been.
            err.outcome = code_pb2.OUTCOME_UNKNOWN
            for one in suspects:
                self._answer(one, err.again())
            return
        for one, first in zip(suspects, found, strict=True):
            await asyncio.sleep(0)
            if first is not None:
                self._metrics.replays.inc()
                self._answer(one, first)
                continue
            try:
                self._go_on(one, known)
            except Exception as error:  # noqa: BLE001 (as above)
                self._fail(one, error)

    def _fail(self, one: Submission, error: BaseException) -> None:
        """Whatever was raised is the submission's answer, and nobody else's."""
        refused = isinstance(error, Refused)
        self._answer(one, results.refused(one.commands, error) if refused else _as_mesh_error(error))

    def _check_contents(self, one: Submission) -> None:
        for index, content in one.matched.items():
            put = one.commands[index].put
            if put is not None:
                try:
                    content_rules.check(put, content, self._checker)
                except Refused as why:
                    raise why.at(index) from why

    def _hand_on(self, one: Submission) -> None:
        if asyncio.get_running_loop().time() >= one.ends_at:
            raise _too_late()
        self._replays.note(one.commands)
        caller = one.caller or rules.acting_for(one.commands[0])
        prepared = Prepared(one.group, one.commands, one.matched, one.size, caller)
        if one.matched:
            self._wait_for(one, self._sealing.enqueue(prepared, one.span, one.ends_at))
        elif all(parsed.name in _ACCESSES for parsed in one.commands):
            self._wait_for(one, self._accesses.enqueue(prepared, one.span, one.ends_at))
        else:
            self._wait_for(one, self._documents.enqueue(prepared, one.span, one.ends_at))

    def _wait_for(self, one: Submission, place: Waiting[Prepared, Receipts]) -> None:
        one.place = place

        def done(_: object) -> None:
            if place.cancelled():
                self._answer(one, _unknown() if place.taken else _too_late())
            elif (error := place.exception()) is None:
                self._answer(one, place.result())
            else:
                self._answer(one, _as_mesh_error(error))

        place.add_done_callback(done)

    def _answer(self, one: Submission, answer: Answer) -> None:
        if one not in self._open:
            return
        self._open.discard(one)
        if self._running.get(one.keys) is one:
            del self._running[one.keys]
        if isinstance(answer, MeshError):
            # What was not said is told by how far it came.
            at_most = code_pb2.OUTCOME_UNKNOWN if one.may_happen else code_pb2.OUTCOME_NOT_DONE
            answer.outcome = answer.outcome or at_most
            self._metrics.count(answer.code)
        else:
            self._measure(one, answer)
        one.answer(answer)
        self._answer_followers(one, answer)
        if not self._open:
            self._none_open.set()

    def _measure(self, one: Submission, receipts: Receipts) -> None:
        reached, accesses = False, 0
        for parsed, entry in zip(one.commands, receipts, strict=False):
            receipt = entry.receipt
            code = receipt.code
            self._metrics.count(code)
            reached = reached or bool(receipt.tx_id)
            if parsed.name in _ACCESSES:
                accesses += 1
                self._metrics.count_decision(parsed.name, code)
        if reached:
            is_access = accesses == len(one.commands)
            kind = "records" if one.matched else "access" if is_access else "documents"
            self._metrics.observe(kind, time.perf_counter() - one.since)

    def _answer_followers(self, one: Submission, answer: Answer) -> None:
        others: list[Submission] = []
        for follower in one.followers:
            if not isinstance(answer, MeshError) and follower.says_the_same(one):
                self._answer(follower, [_again(entry) for entry in answer])
            else:
                others.append(follower)
        if others:
            self._beside(self._take(others))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
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


def _settle(waiting: asyncio.Future[Receipts], answer: Answer) -> None:
    if waiting.done():
        return
    if isinstance(answer, MeshError):
        waiting.set_exception(answer)
    else:
        waiting.set_result(answer)


def _too_late() -> MeshError:
    return MeshError(
        code_pb2.CODE_DEADLINE_EXCEEDED,
        "the deadline passed before it was submitted, so nothing was done; send the same again",
        outcome=code_pb2.OUTCOME_NOT_DONE,
    )


def _unknown() -> MeshError:
    return MeshError(
        code_pb2.CODE_UNKNOWN_OUTCOME,
        "it is not answered yet and may be committed: send the same again, its id makes that harmless",
        outcome=code_pb2.OUTCOME_UNKNOWN,
    )


def _as_mesh_error(error: BaseException) -> MeshError:
    return error if isinstance(error, MeshError) else unexpected(error, "submission.crashed")


def _again(entry: RecordReceipt) -> RecordReceipt:
    """The receipt of a command that was sent twice at a time: the first one's, without the replicas."""
    again = RecordReceipt(receipt=entry.receipt)
    if entry.HasField("stored"):
        again.stored.CopyFrom(entry.stored)
    again.receipt.already_committed = bool(entry.receipt.tx_id)
    return again
