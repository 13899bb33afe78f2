"""One ingest stream: submissions in, results out as they are ready, never more than a window in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1.gateway_pb2 import IngestItem, IngestRequest, IngestResponse, IngestResult
from services.gateway.domain.session import Session
from services.gateway.forward import check_size
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline import Pipeline, Receipts
from services.runtime.errors import MeshError, to_detail

_LONGEST_ID_BYTES = 64


class Ingest:
    """IngestService.

    window    submissions of one stream whose result is not out: then the stream is not read, and
              HTTP/2's flow control stops the sender
    stopping  set when the service shuts down: streams take nothing more, finish, and end
    """

    def __init__(
        self, pipeline: Pipeline, metrics: GatewayMetrics, *, window: int, stopping: asyncio.Event
    ) -> None:
        self._pipeline = pipeline
        self._metrics = metrics
        self._window = window
        self._stopping = stopping

    async def stream(
        self, requests: AsyncIterator[Any], session: Session
    ) -> AsyncGenerator[IngestResponse, None]:
        """Results of the submissions, out of order. Raises MeshError when the stream cannot go on."""
        stream = _Stream(self._pipeline, self._window, self._stopping)
        reader = asyncio.create_task(stream.read(requests), name="ingest-reader")
        self._metrics.streams.inc()
        try:
            while (result := await stream.results.get()) is not None:
                yield IngestResponse(results=[result])
                stream.answered()
            await reader
        finally:
            self._metrics.streams.dec()
            reader.cancel()
            await asyncio.wait([reader])
            if not reader.cancelled():
                reader.exception()


class _Stream:
    """What is under way on one stream. `results` ends with None."""

    def __init__(self, pipeline: Pipeline, window: int, stopping: asyncio.Event) -> None:
        self.results: asyncio.Queue[IngestResult | None] = asyncio.Queue()  # bounded by the window
        self._pipeline = pipeline
        self._slots = asyncio.Semaphore(window)
        self._window = window
        self._stopping = stopping
        self._open: set[str] = set()

    def answered(self) -> None:
        """A result is out: another submission may be read."""
        self._slots.release()

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Take submissions until there are no more; then wait until their results are out.

        Raises MeshError after that, when the stream ends before the sender ends it.
        """
        failure = await self._read_until_stopped(requests)
        # Every slot back means that every result is out.
        for _ in range(self._window):
            await self._slots.acquire()
        self.results.put_nowait(None)
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
            try:
                request = await anext(requests)
            except StopAsyncIteration:
                return
            for item in request.items if isinstance(request, IngestRequest) else [request]:
                await self._slots.acquire()
                try:
                    await self._begin(item)
                except BaseException:
                    self._slots.release()
                    raise

    async def _begin(self, request: IngestItem) -> None:
        name = request.submission_id if isinstance(request, IngestItem) else ""
        size = request.ByteSize()
        try:
            check_size(request)
            self._check_name(name)
        except MeshError as err:
            self.results.put_nowait(_failure(name[:_LONGEST_ID_BYTES], err))
            return
        await self._pipeline.room.take(size)
        self._open.add(name)
        task = self._pipeline.start(request.group, request.contents, size)
        task.add_done_callback(lambda done: self._done(name, size, done))

    def _check_name(self, name: str) -> None:
        if not 1 <= len(name.encode()) <= _LONGEST_ID_BYTES:
            raise MeshError(
                code_pb2.CODE_INVALID,
                f"a submission_id has 1 to {_LONGEST_ID_BYTES} bytes",
                "submission_id",
            )
        if name in self._open:
            raise MeshError(
                code_pb2.CODE_INVALID,
                "another submission of this stream has this submission_id and no result yet",
                "submission_id",
            )

    def _done(self, name: str, size: int, task: asyncio.Task[Receipts]) -> None:
        self._pipeline.room.give(size)
        self._open.discard(name)
        if task.cancelled():
            gone = MeshError(code_pb2.CODE_UNKNOWN_OUTCOME, "it may have been committed; send it again")
            self.results.put_nowait(_failure(name, gone))
        elif (error := task.exception()) is None:
            self.results.put_nowait(IngestResult(submission_id=name, receipts=task.result()))
        elif isinstance(error, MeshError):
            self.results.put_nowait(_failure(name, error))
        else:
            raise error  # `guarded` lets nothing else through


def _failure(name: str, err: MeshError) -> IngestResult:
    return IngestResult(submission_id=name, error=to_detail(err))
