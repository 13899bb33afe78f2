"""Reads one ingest stream: cuts each message into submissions and answers each of them exactly once."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, IngestRequest, IngestResult, Slowed, SlowedReason
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.client_quota import ClientQuota
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.submission import Answer, Submission, code_of, too_late
from services.gateway.rpc.forward import Arrived, check_size
from services.gateway.rpc.ingest_results import Results
from services.runtime import tracing
from services.runtime.byte_budget import Held
from services.runtime.errors import MeshError, guarded, nothing_done, to_detail, unexpected

_LONGEST_ID_BYTES = 64
# Commands that are taken of a message before everybody else has a turn: about 3 ms of parsing.
_SLICE = 200
# Then it is looked at again: other streams of the client may have spent more.
_LONGEST_PAUSE_SECONDS = 1.0
# A sender that goes on waiting is not told so each time.
_TOLD_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class _Rest:
    """The submissions of a message that are not begun, by name, and why. No part of the message itself."""

    names: Sequence[str]
    why: MeshError


class StreamReader:
    """What is under way on one stream: each command takes a part of the window until its result is out."""

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: GatewayMetrics,
        client: ClientQuota,
        results: Results,
        deadline_seconds: float,
        stopping: asyncio.Event,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._client = client
        self._results = results
        self._window = results.window
        self._deadline_seconds = deadline_seconds
        self._stopping = stopping
        self._told_at: dict[SlowedReason, float] = {}
        self._open: set[str] = set()
        self._span = tracing.sampled()
        self._traces = tracing.exports()
        self._message_at_ns = 0
        self._has_message = False

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Take submissions until there are no more; then wait until their results are out.

        Raises MeshError after that, when the stream ends before the sender ends it.
        """
        failure = await self._read_until_stopped(requests)
        await self._results.end()
        if failure is not None:
            raise failure

    async def _read_until_stopped(self, requests: AsyncIterator[Any]) -> BaseException | None:
        """Why the stream ends before the sender ends it; None when the sender did."""
        reading = asyncio.create_task(
            guarded(self._read_all(requests), "ingest.crashed"), name="ingest-reading"
        )
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
            # Whatever a message holds that was read is answered first.
            if not self._has_message:
                reading.cancel()
            await asyncio.wait({reading})
        finally:
            reading.cancel()
            stop.cancel()
            await asyncio.wait({reading, stop})
        return _cut_off() if reading.cancelled() else reading.exception()

    async def _read_all(self, requests: AsyncIterator[Any]) -> None:
        while not self._stopping.is_set():
            # A message is read only when there is room in the window for the first of it at least.
            await self._enter_window()
            self._window.give(1)
            await self._wait_for_refusals()
            try:
                rest = await self._take(await self._next(requests))
            except StopAsyncIteration:
                return
            # The message is gone, and its memory free, before anything is waited for that may take long.
            if rest is not None:
                await self._tell_of(rest)
            self._has_message = False
        raise _cut_off()

    async def _next(self, requests: AsyncIterator[Any]) -> Any:
        request = await anext(requests)
        self._has_message = True
        return request

    async def _wait_for_refusals(self) -> None:
        if (seconds := self._client.refusals.wait_seconds()) > 0:
            self._tell(SlowedReason.SLOWED_REASON_REFUSALS, seconds)
        while (seconds := self._client.refusals.wait_seconds()) > 0:  # noqa: ASYNC110 - until a time that moves
            await asyncio.sleep(min(seconds, _LONGEST_PAUSE_SECONDS))

    def _tell(self, reason: SlowedReason, seconds: float = 0.0) -> None:
        """The sender, and whoever looks after the gateway, that the stream is not read now."""
        now = asyncio.get_running_loop().time()
        if now - self._told_at.get(reason, -math.inf) >= _TOLD_EVERY_SECONDS:
            self._told_at[reason] = now
            self._metrics.pause(reason)
            self._results.slow(Slowed(reason=reason, retry_after_ms=math.ceil(seconds * 1000)))

    async def _tell_of(self, rest: _Rest) -> None:
        for name in rest.names:
            await self._enter_window()
            self._results.put(_failure(name, _same_name() if name in self._open else rest.why), 1)

    async def _take(self, request: Any) -> _Rest | None:
        """Decode it when there is memory for it; each submission gives its part back when it is answered."""
        held = await self._memory_for(request.ByteSize())
        try:
            if isinstance(request, Arrived):
                request = request.decoded()
            # What holds no submission is one result, as what cannot be read: each message is answered.
            several = request.items if isinstance(request, IngestRequest) else None
            return await self._begin(several or [request], held)
        finally:
            held.give_rest()

    async def _begin(self, items: Sequence[Any], held: Held) -> _Rest | None:
        """Hand on what came together, in slices; before waiting for anything, what is ready already.

        While it is here it takes memory that all share. So nothing of it waits for what its sender owes, nor
        longer than its deadline for a sender who takes no results: what is left then is not done.
        """
        ready: list[Submission] = []
        self._message_at_ns = time.time_ns()
        ends_at = asyncio.get_running_loop().time() + self._deadline_seconds
        try:
            begun = 0
            for index, item in enumerate(items):
                if begun >= _SLICE:
                    ready, begun = self._start(ready), 0
                    await asyncio.sleep(0)
                    try:
                        self._client.refusals.check()
                    except MeshError as owing:
                        return _rest(items[index:], owing)
                commands = _commands_of(item)
                if not self._window.try_take(commands):
                    ready = self._start(ready)
                    try:
                        async with asyncio.timeout_at(ends_at):
                            await self._enter_window(commands)
                    except TimeoutError:
                        return _rest(items[index:], too_late())
                if self._stopping.is_set():
                    self._window.give(commands)
                    return _rest(items[index:], _cut_off(code_pb2.OUTCOME_NOT_DONE))
                taken = self._taken(item, commands, ends_at, held)
                if taken is not None:
                    held.keep(taken.size)
                    ready.append(taken)
                begun += commands
        finally:
            self._start(ready)
        return None

    async def _enter_window(self, commands: int = 1) -> None:
        # That this stream is full its sender sees from its results; that its other streams are, it does not.
        if self._window.lacks(commands) and not self._window.lacks_own(commands):
            self._tell(SlowedReason.SLOWED_REASON_CALLER_IS_FULL)
        await self._window.take(commands)

    async def _memory_for(self, size: int) -> Held:
        memory = self._client.memory
        if memory.lacks_own(size):
            self._tell(SlowedReason.SLOWED_REASON_CALLER_IS_FULL)
        elif memory.lacks(size):
            self._tell(SlowedReason.SLOWED_REASON_GATEWAY_IS_FULL)
        return await memory.hold(size)

    def _start(self, ready: list[Submission]) -> list[Submission]:
        if ready:
            self._pipeline.start(*ready)
        return []

    def _taken(self, item: Any, commands: int, ends_at: float, held: Held) -> Submission | None:
        """The submission; None when its result is ready already: it is not taken."""
        name = _name_of(item)
        try:
            with nothing_done():
                return self._submission(item, name, commands, ends_at, held)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one is its answer, and nobody else's
            why = error if isinstance(error, MeshError) else unexpected(error, "submission.crashed")
            # Of two with one name nobody can tell which is meant: that is left open, and asked for again.
            why.outcome = code_pb2.OUTCOME_UNSPECIFIED if name in self._open else code_pb2.OUTCOME_NOT_DONE
            self._client.refusals.note(why.code, commands)
            self._results.put(_failure(name, why), commands)
            return None

    def _submission(self, item: Any, name: str, commands: int, ends_at: float, held: Held) -> Submission:
        if isinstance(item, IngestRequest):
            raise MeshError(code_pb2.CODE_INVALID, "the message holds no submission", "items")
        check_size(item)
        if not 1 <= len(name.encode()) <= _LONGEST_ID_BYTES:
            raise _bad_name(f"a submission_id has 1 to {_LONGEST_ID_BYTES} bytes")
        if name in self._open:
            raise _same_name()
        one = Submission(item.group, item.contents, item.ByteSize(), partial(self._done, name, commands))
        one.client, one.ends_at, one.held = self._client, ends_at, held
        if self._traces:
            self._trace(one, item.traceparent)
        self._open.add(name)
        return one

    def _trace(self, one: Submission, traceparent: str) -> None:
        """With a span when it is sampled, or else when it fails."""
        span = tracing.begin("record", traceparent, self._span)
        came_at_ns, answered = self._message_at_ns, one.answer

        def done(answer: Answer) -> None:
            answered(answer)
            if span is not None:
                tracing.end(span, code_of(answer))
            else:
                tracing.past("record", came_at_ns, code=code_of(answer))

        one.answer = done
        if span is not None:
            one.span = span.get_span_context()

    def _done(self, name: str, commands: int, answer: Answer) -> None:
        self._open.discard(name)
        self._client.refusals.note(code_of(answer), commands)
        if isinstance(answer, MeshError):
            self._results.put(_failure(name, answer), commands)
        else:
            self._results.put(IngestResult(submission_id=name, receipts=answer), commands)


def _commands_of(item: Any) -> int:
    """For how many it counts in every share."""
    return max(1, len(item.group.commands)) if isinstance(item, IngestItem) else 1


def _name_of(item: Any) -> str:
    return item.submission_id if isinstance(item, IngestItem) else ""


def _rest(items: Sequence[Any], why: MeshError) -> _Rest:
    return _Rest([_name_of(item)[:_LONGEST_ID_BYTES] for item in items], why)


def _failure(name: str, err: MeshError) -> IngestResult:
    return IngestResult(submission_id=name[:_LONGEST_ID_BYTES], error=to_detail(err))


def _bad_name(reason: str) -> MeshError:
    return MeshError(code_pb2.CODE_INVALID, reason, "submission_id")


def _same_name() -> MeshError:
    return _bad_name("another submission of this stream has this submission_id and no result yet")


def _cut_off(outcome: int = code_pb2.OUTCOME_UNSPECIFIED) -> MeshError:
    return MeshError(
        code_pb2.CODE_UNAVAILABLE,
        "the stream was cut off here (a shutdown?); send again what has no result yet",
        retry_after_ms=1_000,
        outcome=outcome,
    )
