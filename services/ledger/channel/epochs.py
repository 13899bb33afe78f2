"""Puts the time on the channel: one transaction in each epoch (a minute), by the member that is first.

The chaincode endorses a batch only in an epoch that the channel has, and an endorsement that is two epochs
old can no longer be committed (docs/adr/0021-the-channels-time.md). So epochs are submitted on an idle
channel too.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog
from google.protobuf.message import DecodeError

import fabric_gateway as fabric
from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.protocol.state_keys import EPOCH_KEYS
from services.ledger.channel.clock import EPOCH_SECONDS, ChannelClock
from services.ledger.channel.ports import Channel
from services.ledger.domain import failures
from services.ledger.metrics import LedgerMetrics
from services.ledger.submission.ordering import RefusedByOrderer, UnknownOutcome, order
from services.runtime.errors import code_name
from services.runtime.retry import backoff_seconds

_DEADLINE_SECONDS = 15.0
# How long after its start a service submits an epoch. The first transaction counts for all members.
_EARLIEST_SECONDS, _LATEST_SECONDS = 0.5, 20.0
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 10.0

_log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[object]]


class Epochs:
    """`run` is the task. `ensure` is for a batch that was refused because the epoch was missing."""

    def __init__(
        self,
        channel: Channel,
        metrics: LedgerMetrics,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        channel_clock: ChannelClock | None = None,
    ) -> None:
        self._channel = channel
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._channel_clock = channel_clock or ChannelClock(clock)
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Submit the present epoch at once, then each next one. A failure is tried again."""
        attempt = 0
        while True:
            if await self.ensure():
                attempt = 0
                await self._sleep(self._until_next_seconds())
            else:
                delay = backoff_seconds(attempt, first=_FIRST_DELAY_SECONDS, longest=_LONGEST_DELAY_SECONDS)
                await self._sleep(delay)
                attempt += 1

    async def ensure(self) -> bool:
        """Whether the present epoch is on the channel. Submits it if it is not."""
        async with self._lock:
            try:
                return await self._has_begun() or await self._tell()
            except (fabric.EndorseError, fabric.EvaluateError) as exc:
                failure = failures.of_endorsement(exc.status.name, exc.chaincode_messages)
                if failure.code != code_pb2.CODE_CONFLICT:  # else another member's service was quicker
                    _log.warning("epoch.failed", code=code_name(failure.code))
            except (DecodeError, fabric.MalformedMessage):
                _log.warning("epoch.failed", code=code_name(code_pb2.CODE_INTEGRITY))
            except (TimeoutError, RefusedByOrderer, UnknownOutcome):
                _log.warning("epoch.failed", code=code_name(code_pb2.CODE_UNAVAILABLE))
        return False

    async def _has_begun(self) -> bool:
        query = state_pb2.Query(get_keys=state_pb2.GetKeys(keys=EPOCH_KEYS)).SerializeToString()
        async with asyncio.timeout(_DEADLINE_SECONDS):
            try:
                answer = state_pb2.QueryResult.FromString(await self._channel.query(query))
            except fabric.EvaluateError as exc:
                if failures.is_of_the_clock(exc.chaincode_messages):
                    self._channel_clock.refused()
                raise
        numbers = [state_pb2.Epoch.FromString(value).number for value in answer.values]
        newest = max(numbers, default=0)
        self._channel_clock.seen(newest)
        return newest >= int(self._clock()) // EPOCH_SECONDS

    async def _tell(self) -> bool:
        ends_at = asyncio.get_running_loop().time() + _DEADLINE_SECONDS
        async with asyncio.timeout_at(ends_at):
            endorsed = await self._channel.tick()
        # Invalid: the transaction of another member was first, and the next look finds it.
        return (await order(endorsed, self._channel, self._metrics, ends_at)).successful

    def _until_next_seconds(self) -> float:
        now = self._clock()
        begins = (int(now) // EPOCH_SECONDS + 1) * EPOCH_SECONDS
        return begins - now + random.uniform(_EARLIEST_SECONDS, _LATEST_SECONDS)  # noqa: S311 — jitter, not a secret
