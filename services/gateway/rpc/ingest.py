"""One ingest stream: submissions in, results out as they are ready, never more than a window in between."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import (
    IngestItem,
    IngestRequest,
    IngestResponse,
    IngestResult,
    Slowed,
    SlowedReason,
)
from services.gateway.domain.session import Session
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.client_quota import ClientQuota, ClientQuotas
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.submission import Answer, Submission, code_of, too_late
from services.gateway.rpc.forward import Arrived, check_size
from services.gateway.rpc.ingest_results import Results
from services.runtime import tracing
from services.runtime.byte_budget import ByteBudget, Held
from services.runtime.errors import MeshError, nothing_done, to_detail

_LONGEST_ID_BYTES = 64
# Commands that are taken of a message before everybody else has a turn: about 3 ms of parsing.
_SLICE = 200
# Then it is looked at again: other streams of the client may have spent more.
_LONGEST_PAUSE_SECONDS = 1.0
# Who goes on waiting for room is not told so each time.
_TOLD_EVERY_SECONDS = 1.0


class Ingest:
    """IngestService.

    window            commands of one stream whose result is not out: then the stream is not read, and
                      HTTP/2's flow control stops the sender
    quotas            what each client may have under way by all its streams, and how many of its submissions
                      may be refused: a client that is over it is not read either, and is told so
    deadline_seconds  for a submission to come into a batch; later it is not done
    stopping          set when the service shuts down: streams take nothing more, finish, and end
    """

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: GatewayMetrics,
        *,
        window: int,
        quotas: ClientQuotas,
        deadline_seconds: float,
        stopping: asyncio.Event,
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._window = window
        self._quotas = quotas
        self._deadline_seconds = deadline_seconds
        self._stopping = stopping

    async def stream(
        self, requests: AsyncIterator[Any], session: Session
    ) -> AsyncGenerator[IngestResponse, None]:
        """Results of the submissions, out of order. Raises MeshError when the stream cannot go on."""
        client = self._quotas.of(session.address)
        with client.stream():
            stream = _Stream(
                self._pipeline,
                self._metrics,
                client,
                self._deadline_seconds,
                self._window,
                self._stopping,
            )
            async with aclosing(self._answers(stream, requests)) as answers:
                async for response in answers:
                    yield response

    async def _answers(
        self, stream: _Stream, requests: AsyncIterator[Any]
    ) -> AsyncGenerator[IngestResponse, None]:
        reader = asyncio.create_task(stream.read(requests), name="ingest-reader")
        self._metrics.streams.inc()
        try:
            while (ready := await stream.results.get()) is not None:
                response, commands = ready
                try:
                    yield response
                finally:
                    stream.slots.give(commands)
            await reader
        finally:
            self._metrics.streams.dec()
            reader.cancel()
            stream.leave()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.exception()


@dataclass(frozen=True)
class _Left:
    """What a message held besides, by its names: it is not done, and why. No part of the message itself."""

    names: Sequence[str]
    why: MeshError


class _Stream:
    """What is under way on one stream: each command takes a slot, free again when its result is out."""

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: GatewayMetrics,
        client: ClientQuota,
        deadline_seconds: float,
        window: int,
        stopping: asyncio.Event,
    ) -> None:
        self.results = Results()
        self.slots = ByteBudget(window, client.window)
        self._pipeline = pipeline
        self._metrics = metrics
        self._client = client
        self._deadline_seconds = deadline_seconds
        self._stopping = stopping
        self._told_at: dict[SlowedReason, float] = {}
        self._open: set[str] = set()
        self._span = tracing.sampled()
        self._traces = tracing.exports()
        self._message_at_ns = 0
        self._has_left = False

    def leave(self) -> None:
        """The sender has gone. The client's other streams get back what this one had of their window: now
        for what was ready, and for the rest as it is answered."""
        self._has_left = True
        self.slots.give(self.results.drop())

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Take submissions until there are no more; then wait until their results are out.

        Raises MeshError after that, when the stream ends before the sender ends it.
        """
        failure = await self._read_until_stopped(requests)
        # Every slot back means that every result is out.
        await self.slots.all_given_back()
        self.results.end()
        if failure is not None:
            raise failure

    async def _read_until_stopped(self, requests: AsyncIterator[Any]) -> MeshError | None:
        """Why the stream ends before the sender ends it; None when the sender did."""
        reading = asyncio.create_task(self._read_all(requests), name="ingest-reading")
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({reading, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or reading.cancelled():
                return MeshError(
                    code_pb2.CODE_UNAVAILABLE,
                    "the stream was cut off here (a shutdown?); send again what has no result yet",
                    retry_after_ms=1_000,
                )
        finally:
            reading.cancel()
            stop.cancel()
            await asyncio.wait({reading, stop})
        error = reading.exception()
        if error is None or isinstance(error, MeshError):
            return error
        raise error

    async def _read_all(self, requests: AsyncIterator[Any]) -> None:
        while True:
            # A message is read only when there is a slot for the first of it at least.
            await self._take_slot()
            self.slots.give(1)
            await self._wait_for_refusals()
            try:
                left = await self._take(await anext(requests))
            except StopAsyncIteration:
                return
            # The message is gone, and its memory free, before anything is waited for that may take long.
            if left is not None:
                await self._tell_of(left)

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
            self.results.slow(Slowed(reason=reason, retry_after_ms=math.ceil(seconds * 1000)))

    async def _tell_of(self, left: _Left) -> None:
        for name in left.names:
            await self._take_slot()
            self.results.put(_failure(name, left.why), 1)

    async def _take(self, request: Any) -> _Left | None:
        """Decode it when there is room for it; each submission gives its part back when it is answered."""
        held = await self._memory_for(request.ByteSize())
        try:
            if isinstance(request, Arrived):
                request = request.decoded()
            # What holds no submission is one result, as what cannot be read: each message is answered.
            several = request.items if isinstance(request, IngestRequest) else None
            return await self._begin(several or [request], held)
        finally:
            held.give_rest()

    async def _begin(self, items: Sequence[Any], held: Held) -> _Left | None:
        """Hand on what came together, in slices; before waiting for anything, what is ready already.

        While it is here it takes memory that all share. So nothing of it waits for what its sender owes, nor
        longer than its deadline for a sender who takes no results: what is left then is not done.
        """
        ready: list[Submission] = []
        self._message_at_ns = time.time_ns()
        ends_at = asyncio.get_running_loop().time() + self._deadline_seconds
        try:
            begun = 0
            for place, item in enumerate(items):
                if begun >= _SLICE:
                    ready, begun = self._start(ready), 0
                    await asyncio.sleep(0)
                    try:
                        self._client.refusals.check()
                    except MeshError as owing:
                        return _left(items[place:], owing)
                commands = _commands_of(item)
                if not self.slots.try_take(commands):
                    ready = self._start(ready)
                    try:
                        async with asyncio.timeout_at(ends_at):
                            await self._take_slot(commands)
                    except TimeoutError:
                        return _left(items[place:], too_late())
                taken = self._taken(item, commands, ends_at, held)
                if taken is not None:
                    held.keep(taken.size)
                    ready.append(taken)
                begun += commands
        finally:
            self._start(ready)
        return None

    async def _take_slot(self, commands: int = 1) -> None:
        # That this stream is full its sender sees from its results; that its other streams are, it does not.
        if self.slots.lacks(commands) and not self.slots.lacks_own(commands):
            self._tell(SlowedReason.SLOWED_REASON_CALLER_IS_FULL)
        await self.slots.take(commands)

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
        name = item.submission_id if isinstance(item, IngestItem) else ""
        try:
            with nothing_done():
                if isinstance(item, IngestRequest):
                    raise MeshError(code_pb2.CODE_INVALID, "the message holds no submission", "items")
                check_size(item)
                self._check_length(name)
            # Of two with one name nobody can tell which is meant: that is left open, and asked for again.
            self._check_free(name)
        except MeshError as err:
            self._client.refusals.note(err.code, commands)
            self.results.put(_failure(name, err), commands)
            return None
        self._open.add(name)
        one = Submission(item.group, item.contents, item.ByteSize(), partial(self._done, name, commands))
        one.client, one.ends_at, one.held = self._client, ends_at, held
        if self._traces:
            self._trace(one, item.traceparent)
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

    def _check_length(self, name: str) -> None:
        if not 1 <= len(name.encode()) <= _LONGEST_ID_BYTES:
            raise MeshError(
                code_pb2.CODE_INVALID,
                f"a submission_id has 1 to {_LONGEST_ID_BYTES} bytes",
                "submission_id",
            )

    def _check_free(self, name: str) -> None:
        if name in self._open:
            raise MeshError(
                code_pb2.CODE_INVALID,
                "another submission of this stream has this submission_id and no result yet",
                "submission_id",
            )

    def _done(self, name: str, commands: int, answer: Answer) -> None:
        self._open.discard(name)
        self._client.refusals.note(code_of(answer), commands)
        if self._has_left:
            self.slots.give(commands)
        elif isinstance(answer, MeshError):
            self.results.put(_failure(name, answer), commands)
        else:
            self.results.put(IngestResult(submission_id=name, receipts=answer), commands)


def _commands_of(item: Any) -> int:
    """For how many it counts in every share."""
    return max(1, len(item.group.commands)) if isinstance(item, IngestItem) else 1


def _name_of(item: Any) -> str:
    return item.submission_id[:_LONGEST_ID_BYTES] if isinstance(item, IngestItem) else ""


def _left(items: Sequence[Any], why: MeshError) -> _Left:
    return _Left([_name_of(item) for item in items], why)


def _failure(name: str, err: MeshError) -> IngestResult:
    return IngestResult(submission_id=name[:_LONGEST_ID_BYTES], error=to_detail(err))
