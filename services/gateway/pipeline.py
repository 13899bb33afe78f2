"""What happens to a group, from its arrival to its receipts.

    parse → form → signatures → sent before? → standing → contents → seal → submit → let go of refused

Everything before `seal` can refuse, and then nothing is stored. A group that arrives while the same one is
under way waits for that one's receipts.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import CommandGroup
from cbmdhi.gateway.v1.gateway_pb2 import Content, RecordReceipt
from services.gateway.authentic import Authenticator
from services.gateway.batch import BatchProcessor, Prepared
from services.gateway.domain import contents as content_rules
from services.gateway.domain import group as rules
from services.gateway.domain import results
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.group import Key, Parsed
from services.gateway.domain.refusal import Refused
from services.gateway.metrics import GatewayMetrics
from services.gateway.refusals import refusals
from services.gateway.replays import Replays
from services.gateway.room import Room
from services.runtime.batching import MicroBatcher
from services.runtime.errors import MeshError, guarded
from services.runtime.telemetry import Metrics

Receipts = list[RecordReceipt]

# Validating more than this would hold up everybody else: it is done in a thread.
_LARGE_BYTES = 256 * 1024
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Of batches and of memory."""

    batch_submissions: int = 200
    batch_bytes: int = 16 * _MIB
    linger_seconds: float = 0.01
    batches_in_flight: int = 8
    in_flight_bytes: int = 256 * _MIB
    queue: int = 100_000


@dataclass(frozen=True)
class _Running:
    digest: bytes
    task: asyncio.Task[Receipts]


class Pipeline:
    """Takes groups. `async with` it: leaving waits for what is under way."""

    def __init__(
        self,
        *,
        channel: str,
        authenticator: Authenticator,
        replays: Replays,
        checker: ResourceChecker,
        batches: BatchProcessor,
        metrics: GatewayMetrics,
        registry: Metrics,
        limits: Limits | None = None,
        clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        limits = limits or Limits()
        self._channel = channel
        self._authenticator = authenticator
        self._replays = replays
        self._checker = checker
        self._batches = batches
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._running: dict[tuple[Key, ...], _Running] = {}
        self._tasks: set[asyncio.Task[Receipts]] = set()
        self._closing = False
        self.room = Room(limits.in_flight_bytes)
        """Take what a group needs before `start`."""
        self._batcher: MicroBatcher[Prepared, Receipts] = MicroBatcher(
            batches.process,
            max_count=limits.batch_submissions,
            max_bytes=limits.batch_bytes + _MIB,
            linger_seconds=limits.linger_seconds,
            max_queue=limits.queue,
            size_of=lambda prepared: prepared.size,
            max_in_flight=limits.batches_in_flight,
            metrics=registry,
            name="seal",
        )

    async def __aenter__(self) -> Pipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._batcher.close()

    def start(self, group: CommandGroup, contents: Sequence[Content], size: int) -> asyncio.Task[Receipts]:
        """Begin; the task's result are receipts in order, or it raises MeshError. Whoever waits for it
        may go away: it goes on, since its commands may be on their way to the channel."""
        work = self._counted(self._take(group, contents, size), size)
        task = asyncio.create_task(guarded(work, "submission.crashed"), name="submission")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Receipts]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # heard by whoever waits; nobody may

    async def _counted(self, work: Any, size: int) -> Receipts:
        self._metrics.in_flight.inc()
        self._metrics.in_flight_bytes.inc(size)
        try:
            receipts: Receipts = await work
        except MeshError as err:
            self._metrics.submissions.labels(self._metrics.code(err.code)).inc()
            raise
        finally:
            self._metrics.in_flight.dec()
            self._metrics.in_flight_bytes.dec(size)
        for entry in receipts:
            self._metrics.submissions.labels(self._metrics.code(entry.receipt.code)).inc()
        return receipts

    async def _take(self, group: CommandGroup, contents: Sequence[Content], size: int) -> Receipts:
        if self._closing:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "the gateway is shutting down; send again", "", 1_000)
        with refusals():
            commands = rules.parse(group)
        keys = tuple(parsed.key for parsed in commands)
        digest = hashlib.sha256(b"".join(parsed.signed.SerializeToString() for parsed in commands)).digest()
        while (running := self._running.get(keys)) is not None:
            await asyncio.wait([running.task])
            if running.digest == digest and _succeeded(running.task):
                return [_again(entry) for entry in running.task.result()]
        current = asyncio.current_task()
        if current is not None:
            self._running[keys] = _Running(digest, current)
        try:
            return await self._answer(group, commands, contents, size)
        finally:
            self._running.pop(keys, None)

    async def _answer(
        self, group: CommandGroup, commands: tuple[Parsed, ...], contents: Sequence[Content], size: int
    ) -> Receipts:
        try:
            with self._metrics.stage("check"):
                rules.check_form(commands, self._channel)
                matched = content_rules.match(commands, contents)
                await self._authenticator.check_signatures(commands)
                first = await self._replays.find(group, commands, has_contents=bool(matched))
                if first is not None:
                    self._metrics.replays.inc()
                    return first
                await self._authenticator.check_standing(commands, self._clock_ms())
                await self._check_contents(commands, matched, size)
        except Refused as why:
            return results.refused(commands, why)
        self._replays.note(commands)
        prepared = Prepared(group, commands, matched, size)
        if matched:
            return await self._batcher.submit(prepared)
        # Nothing to seal: the ledger makes its own batches.
        answer = (await self._batches.process([prepared]))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _check_contents(
        self, commands: tuple[Parsed, ...], matched: Mapping[int, Content], size: int
    ) -> None:
        def check() -> None:
            for index, content in matched.items():
                put = commands[index].put
                if put is not None:
                    try:
                        content_rules.check(put, content, self._checker)
                    except Refused as why:
                        raise why.at(index) from why

        with self._metrics.validation.time():
            if size > _LARGE_BYTES:
                await asyncio.to_thread(check)
            else:
                check()


def _succeeded(task: asyncio.Task[Receipts]) -> bool:
    return not task.cancelled() and task.exception() is None


def _again(entry: RecordReceipt) -> RecordReceipt:
    """The receipt of a command that was sent twice at a time: the first one's, without the replicas."""
    again = RecordReceipt(receipt=entry.receipt)
    if entry.HasField("stored"):
        again.stored.CopyFrom(entry.stored)
    again.receipt.already_committed = bool(entry.receipt.tx_id)
    return again
