"""One ingest stream: submissions in, results out as they are ready, never more than a window in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from cbmdhi.gateway.v1.gateway_pb2 import IngestResponse
from services.gateway.domain.session import Session
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.client_quota import ClientQuotas
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.rpc.ingest_results import Results
from services.gateway.rpc.stream_reader import StreamReader
from services.runtime.byte_budget import ByteBudget


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
            results = Results(ByteBudget(self._window, client.window))
            reader = StreamReader(
                self._pipeline, self._metrics, client, results, self._deadline_seconds, self._stopping
            )
            async with aclosing(self._answers(reader, results, requests)) as answers:
                async for response in answers:
                    yield response

    async def _answers(
        self, reader: StreamReader, results: Results, requests: AsyncIterator[Any]
    ) -> AsyncGenerator[IngestResponse, None]:
        reading = asyncio.create_task(reader.read(requests), name="ingest-reader")
        self._metrics.streams.inc()
        try:
            while (ready := await results.get()) is not None:
                response, commands = ready
                try:
                    yield response
                finally:
                    results.window.give(commands)
            await reading
        finally:
            self._metrics.streams.dec()
            reading.cancel()
            results.leave()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()
