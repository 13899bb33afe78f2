"""Removes notifications that are older than the member keeps them, a little at a time."""

import asyncio
from collections.abc import Callable

import structlog

from services.notify.inbox import Inbox
from services.runtime.errors import MeshError, code_name

_log = structlog.get_logger()

_DAY_MS = 86_400_000
_SWEEP_SECONDS = 3_600.0
_REST_SECONDS = 0.05
"""Pause between two slices, so that new notifications are written."""


class Retention:
    """days  how long a notification is kept, also an unseen one"""

    def __init__(self, inbox: Inbox, days: float, now_ms: Callable[[], int]) -> None:
        self._inbox = inbox
        self._days = days
        self._now_ms = now_ms

    async def run(self) -> None:
        """Sweep each hour until cancelled."""
        while True:
            try:
                removed = await self.sweep()
            except MeshError as err:
                _log.warning("inboxes.not_swept", code=code_name(err.code), reason=err.reason)
            else:
                if removed:
                    _log.info("inboxes.swept", count=removed)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def sweep(self) -> int:
        """Remove what is too old now; gives how many."""
        before_ms = self._now_ms() - int(self._days * _DAY_MS)
        removed = 0
        while part := await self._inbox.remove_some(before_ms):
            removed += part
            await asyncio.sleep(_REST_SECONDS)
        return removed
