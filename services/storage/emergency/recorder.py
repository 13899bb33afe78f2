"""Tells patients of records opened without a majority, and records the openings on the channel later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from cbmdhi.command.v1 import code_pb2
from services.runtime.concurrency import each
from services.runtime.errors import MeshError, code_name
from services.runtime.retry import backoff_seconds
from services.storage.channel.ledger import Ledger
from services.storage.channel.state import ChannelState, stands_still
from services.storage.emergency.log import EmergencyLog, Kept
from services.storage.emergency.notices import PatientNotices
from services.storage.metrics import StorageMetrics

_log = structlog.get_logger()

_AT_ONCE = 100
# Of those, how many notices at a time. When all fail that takes 10 s, before anything is recorded.
_TOLD_AT_ONCE = 50
_FIRST_SECONDS, _LONGEST_SECONDS = 2.0, 60.0


class EmergencyRecorder:
    """`run` is the task. An entry of the log is open until the own peer has its audit entry."""

    def __init__(
        self,
        emergency_log: EmergencyLog,
        state: ChannelState,
        carrier: Ledger,
        teller: PatientNotices,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._emergency_log = emergency_log
        self._state = state
        self._carrier = carrier
        self._teller = teller
        self._metrics = metrics
        self._now_ms = now_ms
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at the log now: an entry was added."""
        self._woken.set()

    async def run(self) -> None:
        """Tell and record, for as long as the service lives."""
        attempt = 0
        while True:
            self._woken.clear()
            left = await self.settle()
            attempt = attempt + 1 if left else 0
            # Another process of this member's storage may have added an entry, so look now and then.
            longest = _LONGEST_SECONDS if left == 0 else None
            delay = longest or backoff_seconds(attempt, first=_FIRST_SECONDS, longest=_LONGEST_SECONDS)
            try:
                async with asyncio.timeout(delay):
                    await self._woken.wait()
                attempt = 0
            except TimeoutError:
                pass

    async def settle(self) -> int:
        """Go once through all open entries; gives how many are left."""
        try:
            # First those without a notice: they wait for neither the channel nor repeated notices.
            async for page in self._pages():
                await self._tell_all([one for one in page if not one.told])
            # Every entry gets its turn, even when an earlier one fails.
            async for page in self._pages():
                await self._tell_all([one for one in page if one.told])
                await self._record([one for one in page if not one.recorded_ms])
            return len(await self._emergency_log.unsettled(1))
        except MeshError as err:
            _log.warning("emergency.postponed", code=code_name(err.code), reason=err.reason)
            return 1
        finally:
            await self._measure()

    async def _pages(self) -> AsyncIterator[list[Kept]]:
        """All open entries, oldest first, in pages."""
        last = None
        while page := await self._emergency_log.unsettled(_AT_ONCE, last):
            yield page
            last = page[-1]

    async def _tell_all(self, ones: Sequence[Kept]) -> None:
        """Several at a time, since each waits for its deadline while notify hangs."""
        results = await each(range(len(ones)), lambda place: self._tell(ones[place]), _TOLD_AT_ONCE)
        for failure in results.values():
            if failure is not None:
                raise failure

    async def _tell(self, one: Kept) -> None:
        """Send the notice, again and again until the entry is on the channel.

        An inbox that was lost and rebuilt from the channel could not have it otherwise.
        """
        try:
            await self._teller.tell(one.signed)
        except MeshError as err:
            _log.warning("emergency.not_told", code=code_name(err.code), reason=err.reason)
            return
        if not one.told:
            await self._emergency_log.told(one)

    async def _record(self, open_ones: Sequence[Kept]) -> None:
        left = await self._find(open_ones)
        if not left or stands_still(await self._state.newest_epoch(), self._now_ms()):
            return
        await self._carrier.submit([one.signed for one in left])
        left = await self._find(left)
        if left:
            _log.warning("emergency.not_recorded", count=len(left))

    async def _find(self, wanted: Sequence[Kept]) -> list[Kept]:
        """Note which entries are on the channel, by the own peer; gives the others."""
        entries = await self._state.audit_entries([(one.command_id, one.clinician) for one in wanted])
        left: list[Kept] = []
        for one, entry in zip(wanted, entries, strict=True):
            if entry is None or entry.command_sha256 != one.command_sha256:
                left.append(one)
                continue
            objection = entry.objection if entry.code == code_pb2.CODE_OK else entry.code
            await self._emergency_log.recorded(one, self._now_ms(), objection)
            _log.warning("emergency.recorded", code=code_name(objection or entry.code))
        return left

    async def _measure(self) -> None:
        count, oldest_ms = await self._emergency_log.unrecorded()
        self._metrics.emergencies_unrecorded.set(count)
        age_ms = max(0, self._now_ms() - oldest_ms) if count else 0
        self._metrics.emergency_unrecorded.set(age_ms / 1000)
