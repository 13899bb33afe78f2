"""An ingest that outlives its streams: over to the next before the token ends, and again where one breaks.

Streams are opened one after the other, each with a token of its own. Before a token ends its stream is closed
on this side, and its last results come while the next stream is open. What has no result when a stream breaks
is sent again as it is: under the same ids it has no second effect.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from cbmdhi.client.backoff import Backoff
from cbmdhi.client.connection import Connection, Metadata, connected
from cbmdhi.client.ingest_entries import Entry, GaveUp
from cbmdhi.client.ingest_messages import MOST_ITEMS, requests
from cbmdhi.client.slowed import log_slowed
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, Misuse, from_rpc
from cbmdhi.gateway.v1 import gateway_pb2

T = TypeVar("T")

_METHOD = "/cbmdhi.gateway.v1.IngestService/Ingest"
# Signed and waiting for the stream to be read, and answered and waiting for the caller.
_MOST_WAITING = 1_000
# Between two looks whether a token that is being renewed is there.
_LOOK_SECONDS = 0.05
_SHORTEST_SECONDS = 0.2
# The stream broke, its token ended, there is no place for another now, or a login took too long.
_RESENT = (
    code_pb2.CODE_UNAVAILABLE,
    code_pb2.CODE_DEADLINE_EXCEEDED,
    code_pb2.CODE_UNAUTHENTICATED,
    code_pb2.CODE_RESOURCE_EXHAUSTED,
)


class Ingest(Generic[T]):
    """Sends what a source gives, and gives each result once, in the order in which they are ready.

    source            what is ready to be sent; read no faster than the gateway reads
    patience_seconds  for streams that break one after the other without a result, and for a gateway that
                      takes what is sent and answers nothing; then GaveUp is raised. What it leaves out while
                      it answers others is sent again by another stream. For results as well when the
                      source has failed; then what it raised is raised
    on_break          told of each break that is mended
    on_slowed         told when the gateway does not read for a while, by default the log

        async for entry, result in Ingest(connection, source).results(): ...
    """

    def __init__(
        self,
        connection: Connection,
        source: AsyncIterator[Sequence[Entry[T]]],
        *,
        patience_seconds: float,
        on_break: Callable[[MeshError], None] = lambda _: None,
        on_slowed: Callable[[gateway_pb2.Slowed], None] | None = None,
    ) -> None:
        self._connection = connection
        self._source = source
        self._on_break = on_break
        self._on_slowed = on_slowed or log_slowed
        self._waits = Backoff(patience_seconds)
        # A token was refused, and there was no result since.
        self._is_refused = False
        self._waiting: deque[Entry[T]] = deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        # Sent or to be sent, and without a result.
        self._open: dict[str, Entry[T]] = {}
        # When there was a result, or the caller took one for which others waited.
        self._heard_at = 0.0
        # Each takes a place until the caller has it; None, which stands for the end, waits for no place.
        self._ready: asyncio.Queue[tuple[Entry[T], gateway_pb2.IngestResult | None] | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(_MOST_WAITING)
        self._source_ended = False
        self._failed: Exception | None = None
        self._streams: set[asyncio.Task[_Ended | None]] = set()
        self._running: asyncio.Task[None] | None = None
        # What ends all of it: nobody expected it of a stream, or the source failed a while ago.
        self._fault: BaseException | None = None
        self._ending: asyncio.TimerHandle | None = None

    async def results(self) -> AsyncGenerator[tuple[Entry[T], gateway_pb2.IngestResult | None]]:
        """Until each has its result, None what was refused here. Raises GaveUp, or what the source raises.

        Whoever leaves early closes it (`aclosing`): then the source is closed, every stream has ended, and
        nothing runs on.
        """
        self._running = running = asyncio.create_task(self._run(), name="ingest-streams")
        try:
            while (answered := await self._ready.get()) is not None:
                self._places.release()
                yield answered
            if self._fault is not None:
                raise self._fault
            await running
        finally:
            await _ended([running])
            if self._ending is not None:
                self._ending.cancel()

    def unheard(self) -> list[Entry[T]]:
        """What may have left, and whose result was not given. For when nobody asks for results any more."""
        left = {
            entry.submission_id: entry
            for entry in self._open.values()
            if entry.stream is not None or entry.may_be_done
        }
        while not self._ready.empty():
            if (answered := self._ready.get_nowait()) is not None and answered[1] is not None:
                left.setdefault(answered[0].submission_id, answered[0])
        return list(left.values())

    async def _feed(self) -> None:
        try:
            async for entries in self._source:
                for entry in entries:
                    if entry.refused is not None:
                        await self._give(entry, None)
                        continue
                    known = self._open.setdefault(entry.submission_id, entry)
                    if known is entry:
                        self._waiting.append(entry)
                    elif known.raw != entry.raw:
                        entry.refused = _taken_id()
                        await self._give(entry, None)
                    # Who gives the same twice gets one result.
                self._changed.set()
                if len(self._waiting) >= _MOST_WAITING:
                    self._has_room.clear()
                    await self._has_room.wait()
        except Exception as error:
            # What was sent may still have its result, but nobody waits for that without an end.
            self._failed = error
            loop = asyncio.get_running_loop()
            self._ending = loop.call_later(self._waits.patience_seconds, self._end, error)
            raise
        finally:
            self._source_ended = True
            self._changed.set()
            if isinstance(self._source, AsyncGenerator):
                await self._source.aclose()

    async def _give(self, entry: Entry[T], result: gateway_pb2.IngestResult | None) -> None:
        await self._places.acquire()
        self._ready.put_nowait((entry, result))
        if self._open.get(entry.submission_id) is entry:
            del self._open[entry.submission_id]

    async def _run(self) -> None:
        feeding = asyncio.create_task(self._feed(), name="ingest-source")
        try:
            while await self._is_wanted():
                stream = _Stream()
                carrying = asyncio.create_task(self._carry(stream), name="ingest-stream")
                self._streams.add(carrying)
                carrying.add_done_callback(self._carried)
                await stream.closed.wait()
                if not carrying.done() and not self._source_ended:
                    # Its token ends soon. Its last results come while the next stream is open.
                    continue
                await asyncio.wait({carrying})
                if (ended := carrying.result()) is not None:
                    await self._mend(ended)
            await feeding
        finally:
            try:
                await _ended([feeding, *self._streams])
            finally:
                self._ready.put_nowait(None)

    def _carried(self, carrying: asyncio.Task[_Ended | None]) -> None:
        """A stream has ended. What nobody expected ends all of it, also of one whose time was over."""
        self._streams.discard(carrying)
        if not carrying.cancelled() and (error := carrying.exception()) is not None:
            self._end(error)

    def _end(self, why: BaseException) -> None:
        self._fault = self._fault or why
        if self._running is not None:
            self._running.cancel()

    async def _is_wanted(self) -> bool:
        """Whether something waits for another stream; False when each has its result."""
        while not self._waiting:
            if not self._open:
                if self._source_ended:
                    return False
                # Nobody waits for anything: what broke until now tries no patience.
                self._waits.reset()
            self._changed.clear()
            await self._changed.wait()
        return True

    async def _mend(self, ended: _Ended) -> None:
        """Wait until another try may mend it. Raises GaveUp."""
        why = ended.why
        if ended.is_silent:
            silent_for = asyncio.get_running_loop().time() - self._heard_at
            is_useless = silent_for >= self._waits.patience_seconds
        else:
            is_useless = why.code not in _RESENT
        wait = self._waits.next(why.retry_after_ms / 1000)
        is_ended = why.code == code_pb2.CODE_UNAUTHENTICATED
        # A token whose time was over before its results were there was not refused.
        is_refused = is_ended and self._connection.renews_in(ended.metadata) > 0
        if is_useless and ended.is_silent and self._failed is not None:
            # For its results alone there was still a wait.
            raise self._failed
        if is_useless or self._waits.is_over(wait) or (is_refused and self._is_refused):
            if self._waits.attempts > 1:
                tried = f"{why.reason} ({self._waits.attempts} streams in a row brought no result)"
                why = MeshError(why.code, tried, why.path, why.retry_after_ms, why.outcome)
            raise self._gave_up(why) from ended.cause
        if is_ended:
            self._is_refused |= is_refused
            self._connection.forget_token(ended.metadata)
        self._on_break(why)
        await asyncio.sleep(wait)

    def _gave_up(self, why: MeshError) -> GaveUp:
        for entry in self._open.values():
            # The stream on which it was sent is not the one that broke.
            entry.may_be_done |= entry.stream is not None
        return GaveUp(why, list(self._open.values()))

    async def _carry(self, stream: _Stream) -> _Ended | None:
        """One stream. Gives why it broke; None when nothing is left that was sent by it."""
        try:
            return await self._carry_open(stream)
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            # So grpc ends a call whose requests cannot be made, or whose channel is closed.
            closed = MeshError(code_pb2.CODE_UNAVAILABLE, "the client was closed while this was under way")
            raise (stream.fault or self._gave_up(closed)) from error
        finally:
            stream.closed.set()

    async def _carry_open(self, stream: _Stream) -> _Ended | None:
        connection = self._connection
        try:
            stream.metadata = await connection.metadata()
            await connected(connection.authenticated, connection.deadline_seconds)
            method = connection.authenticated.stream_stream(
                _METHOD,
                request_serializer=bytes,
                response_deserializer=gateway_pb2.IngestResponse.FromString,
            )
            call: Any = method(self._requests(stream), metadata=stream.metadata)
            stream.is_open = True
            watching = asyncio.create_task(self._watch(stream, call), name="ingest-watch")
            try:
                async for response in call:
                    await self._take(response, stream)
            finally:
                call.cancel()
                watching.cancel()
        except (grpc.aio.AioRpcError, MeshError) as error:
            ours = error if isinstance(error, MeshError) else from_rpc(error)
            if stream.is_silent:
                return self._silent(stream)
            self._again(stream, ours.outcome)
            return _Ended(ours, stream.metadata, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not stream.is_silent or (task is not None and task.cancelling()):
                raise
            return self._silent(stream)
        if stream.is_silent:
            return self._silent(stream)
        if self._again(stream, code_pb2.OUTCOME_UNKNOWN):
            why = MeshError(code_pb2.CODE_UNAVAILABLE, "the gateway ended the stream early")
            return _Ended(why, stream.metadata, None)
        return None

    async def _watch(self, stream: _Stream, call: Any) -> None:
        """End a stream that has something for longer than patience and gives no answer to it."""
        now = asyncio.get_running_loop().time
        patience = self._waits.patience_seconds
        while True:
            sent = [entry.sent_at for entry in self._open.values() if entry.stream is stream]
            # Of what waits for the caller nobody knows yet.
            oldest = now() if stream.is_taking or not sent else max(min(sent), stream.taken_at)
            if now() - oldest >= patience:
                stream.is_silent = True
                call.cancel()
                return
            await asyncio.sleep(oldest + patience - now())

    def _silent(self, stream: _Stream) -> _Ended:
        self._again(stream, code_pb2.OUTCOME_UNKNOWN)
        reason = f"the gateway took it and gave no answer within {self._waits.patience_seconds:g} s"
        why = MeshError(code_pb2.CODE_DEADLINE_EXCEEDED, reason, outcome=code_pb2.OUTCOME_UNKNOWN)
        return _Ended(why, stream.metadata, None, is_silent=True)

    async def _take(self, response: gateway_pb2.IngestResponse, stream: _Stream) -> None:
        if response.HasField("slowed"):
            self._on_slowed(response.slowed)
        now = asyncio.get_running_loop().time
        for result in response.results:
            entry = self._open.get(result.submission_id)
            if entry is None:
                continue
            self._waits.reset()
            self._is_refused = False
            self._heard_at = now()
            if self._places.locked():
                stream.is_taking = True
                await self._give(entry, result)
                stream.is_taking = False
                stream.taken_at = self._heard_at = now()
            else:
                await self._give(entry, result)
        if not self._open:
            self._changed.set()

    def _again(self, stream: _Stream, outcome: int) -> bool:
        """Put back what was sent by this stream and has no result; whether there was any."""
        stream.is_over = True
        left = [entry for entry in self._open.values() if entry.stream is stream]
        for entry in left:
            entry.stream = None
            entry.may_be_done |= stream.is_open and outcome != code_pb2.OUTCOME_NOT_DONE
        self._waiting.extendleft(reversed(left))
        self._changed.set()
        return bool(left)

    async def _requests(self, stream: _Stream) -> AsyncIterator[bytes]:
        """What waits, until there is a newer token than the stream's; nothing once the stream broke."""
        try:
            loop = asyncio.get_running_loop()
            # A stream is not worth a login for a moment, however short a token is said to be good.
            looks_at = loop.time() + max(self._connection.renews_in(stream.metadata), _SHORTEST_SECONDS)
            while not stream.is_over:
                self._changed.clear()
                if self._waiting:
                    for message in requests([entry.raw for entry in self._next(stream)]):
                        yield message
                elif self._source_ended:
                    break
                else:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(looks_at):
                            await self._changed.wait()
                if loop.time() >= looks_at:
                    if await self._connection.is_renewed(stream.metadata):
                        break
                    looks_at = loop.time() + max(self._connection.renews_in(stream.metadata), _LOOK_SECONDS)
        except Exception as error:
            stream.fault = error
            raise
        stream.closed.set()

    def _next(self, stream: _Stream) -> list[Entry[T]]:
        entries = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_ITEMS))]
        now = asyncio.get_running_loop().time()
        for entry in entries:
            entry.stream, entry.sent_at = stream, now
        if len(self._waiting) < _MOST_WAITING:
            self._has_room.set()
        return entries


@dataclass
class _Ended:
    """A stream that did not come to its end."""

    why: MeshError
    metadata: Metadata
    cause: BaseException | None
    is_silent: bool = False


class _Stream:
    """One stream.

    closed     nothing more is sent by it
    fault      why no request could be made
    is_silent  it was ended here, since it gave no answer
    is_taking  its results wait for the caller; `taken_at`: until when they did
    """

    def __init__(self) -> None:
        self.metadata: Metadata = ()
        self.closed = asyncio.Event()
        self.is_open = self.is_over = self.is_silent = self.is_taking = False
        self.taken_at = 0.0
        self.fault: Exception | None = None


def _taken_id() -> MeshError:
    reason = (
        "another submission under the same submission id is under way, so this one was not sent: "
        "give it a submission id of its own (`records.prepare` does), or send it after the other's result"
    )
    return Misuse(reason, "submission_id")


async def _ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait until none of them runs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
