"""Settles leases: asks the own ledger for their outcome, seconds after the pin and then less often.

Nobody else is believed, neither a gateway nor another member. A lease stays as it is until the own ledger
tells its outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from cbmdhi.ledger.v1.ledger_pb2 import GetCommittedContentsResponse
from services.runtime.errors import MeshError, code_name
from services.storage.channel.ledger import Ledger
from services.storage.domain.lease import LEASE_MS, Content, Lease, settle
from services.storage.metrics import StorageMetrics
from services.storage.store.leases import Leases
from services.storage.store.pins import Pins

_log = structlog.get_logger()

_EVERY_SECONDS = 1.0
_PAGE = 50
_MOST_COMMANDS = 2_000


class LeaseSettler:
    """`run` is the task that settles due leases."""

    def __init__(
        self,
        own_msp: str,
        leases: Leases,
        pins: Pins,
        ledger: Ledger,
        metrics: StorageMetrics,
        now_ms: Callable[[], int],
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._own_msp = own_msp
        self._leases = leases
        self._pins = pins
        self._ledger = ledger
        self._metrics = metrics
        self._now_ms = now_ms
        self._every_seconds = every_seconds
        self._channel_time_ms = 0
        # The code of the last failure. The same failure is logged once for as long as it lasts.
        self._trouble = 0

    async def run(self) -> None:
        """Settle, for as long as the service lives."""
        while True:
            with suppress(MeshError):  # logged already
                await self.settle_due()
            await asyncio.sleep(self._every_seconds)

    async def settle_due(self) -> None:
        """Settle what is due now, a page at a time. While the ledger is unavailable nothing changes."""
        while page := await self._leases.due(self._now_ms(), _PAGE):
            try:
                await self._settle(page)
                self._trouble = 0
            except MeshError as err:
                if err.code != self._trouble:
                    _log.warning(
                        "leases.postponed", code=code_name(err.code), count=len(page), reason=err.reason
                    )
                self._trouble = err.code
                await self._leases.postpone(page, self._now_ms())
        await self._measure()

    async def _settle(self, page: Sequence[Lease]) -> None:
        named = await self._named({lease.root_cid: () for lease in page})
        done = [lease for lease in page if _all(lease) <= named[lease.root_cid]]
        await self._keep(done)
        kept = {lease.root_cid for lease in done}
        for some in _portions([lease for lease in page if lease.root_cid not in kept]):
            await self._settle_rest(some)

    async def _settle_rest(self, leases: Sequence[Lease]) -> None:
        """Settle leases with contents that are not on the channel: not yet, or never."""
        asked = {lease.root_cid: lease.contents for lease in leases}
        answer = await self._ask(asked)
        known: dict[Lease, frozenset[str]] = {}
        for lease, found in zip(leases, answer.batches, strict=True):
            decided = {content for content, is_ in zip(lease.contents, found.decided, strict=True) if is_}
            ended = lease.has_ended(answer.channel_time_ms, self._now_ms())
            stays = settle(lease, set(found.cids), decided, ended=ended)
            if stays is not None:
                known[lease] = stays
        await self._keep([lease for lease, stays in known.items() if stays == _all(lease)])
        gone = {lease: stays for lease, stays in known.items() if stays != _all(lease)}
        failed = await self._release(gone) if gone else []
        waiting = [*failed, *(lease for lease in leases if lease not in known)]
        if waiting:
            await self._leases.postpone(waiting, self._now_ms())

    async def _keep(self, leases: Sequence[Lease]) -> None:
        if leases:
            await self._leases.keep(leases)
            self._metrics.leases_settled.labels("committed").inc(len(leases))

    async def _release(self, gone: Mapping[Lease, frozenset[str]]) -> list[Lease]:
        """Unpin; gives the leases whose roots the node did not unpin.

        If the call fails for several, each is tried by itself, so that one cannot hold up the others.
        """
        try:
            await self._pins.release(gone, self._now_ms())
        except MeshError as err:
            if len(gone) > 1:
                return [one for lease, stays in gone.items() for one in await self._release({lease: stays})]
            _log.warning("unpin.postponed", code=code_name(err.code), count=len(gone))
            return list(gone)
        for stays in gone.values():
            self._metrics.leases_settled.labels("partly" if stays else "released").inc()
        return []

    async def _named(self, asked: Mapping[str, Sequence[Content]]) -> dict[str, set[str]]:
        answer = await self._ask(asked)
        return {root: set(found.cids) for root, found in zip(asked, answer.batches, strict=True)}

    async def _ask(self, asked: Mapping[str, Sequence[Content]]) -> GetCommittedContentsResponse:
        answer = await self._ledger.committed_contents(asked)
        self._channel_time_ms = answer.channel_time_ms
        return answer

    async def _measure(self) -> None:
        """Set the gauges, by the channel's time: on an idle channel nothing can be settled or overdue."""
        self._metrics.leases_open.set(await self._leases.count())
        self._metrics.leased_to_member.set(await self._leases.largest_elsewhere(self._own_msp))
        oldest_ms = await self._leases.oldest_ms()
        overdue_ms = self._channel_time_ms - oldest_ms - LEASE_MS if oldest_ms else 0
        self._metrics.lease_overdue.set(max(0, overdue_ms) / 1000)
        self._metrics.blocks_waiting.set(await self._leases.count_waiting())


def _all(lease: Lease) -> set[str]:
    return {content.cid for content in lease.contents}


def _portions(leases: Sequence[Lease]) -> list[list[Lease]]:
    """Leases for one question each: at most 2,000 commands, and each root once."""
    portions: list[list[Lease]] = []
    commands = 0
    for lease in leases:
        roots = {one.root_cid for one in portions[-1]} if portions else set[str]()
        commands += len(lease.contents)
        if not portions or commands > _MOST_COMMANDS or lease.root_cid in roots:
            portions.append([])
            commands = len(lease.contents)
        portions[-1].append(lease)
    return portions
