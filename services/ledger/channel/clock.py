"""Compares this machine's clock with those of the own chaincode and the channel.

An endorser refuses a time that is more than a minute from its own clock, so a ledger with a wrong clock gets
no endorsements. If the own chaincode refuses, this machine differs from its own peer. If the channel's epochs
(docs/adr/0021-the-channels-time.md) differ, the whole member is wrong, since a majority of clocks agreed to
each epoch. A refusal by one other member proves nothing.
"""

import time
from collections.abc import Callable

from services.runtime.clock import MOST_SECONDS

EPOCH_SECONDS = 60
# How long before its start and after its end a minute may be submitted: endorsers' clocks allow it.
_ALLOWED_SECONDS = 60.0
# A peer that catches up passes through minutes faster than a peer at the end of the channel.
_LIVE_SECONDS = 30.0
_SET_BOTH = "set both by a time server (timedatectl set-ntp true)"


class ChannelClock:
    """Gets the answers of the own peer; `check` is for readiness.

    now      this machine's clock, Unix seconds
    elapsed  a monotonic clock, seconds
    """

    def __init__(
        self, now: Callable[[], float] = time.time, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._elapsed = elapsed
        self._refused = False
        self._apart = ""
        self._newest = 0
        self._begun_at: float | None = None
        self._looked_at = 0.0

    def refused(self) -> None:
        """The own chaincode refused this machine's time as too far from its own."""
        self._refused = True

    def seen(self, newest: int) -> None:
        """The own chaincode accepted this machine's time. `newest`: the channel's newest minute."""
        self._refused = False
        now, at = self._now(), self._elapsed()
        minute = int(now) // EPOCH_SECONDS
        if newest * EPOCH_SECONDS - now > _ALLOWED_SECONDS + MOST_SECONDS:
            self._apart = f"{newest - minute} minutes behind"
        elif newest >= minute:
            self._apart = ""
        elif newest == self._newest + 1 and self._is_live(at):
            # The minute began after the last look, which gives its latest time by a majority's clocks.
            latest = (newest + 1) * EPOCH_SECONDS + _ALLOWED_SECONDS + (at - self._looked_at)
            self._apart = f"{minute - newest} minutes ahead of" if now > latest else ""
        if newest != self._newest:
            self._begun_at = at if self._newest else None
            self._newest = newest
        self._looked_at = at

    async def check(self) -> str | None:
        """For readiness. A channel that stands still proves nothing about a clock."""
        if self._refused:
            return (
                "this machine's clock is more than a minute off that of the own chaincode, which endorses"
                f" nothing from here; {_SET_BOTH}"
            )
        return f"this machine's clock is {self._apart} the channel's; {_SET_BOTH}" if self._apart else None

    def _is_live(self, at: float) -> bool:
        """Whether the previous minute was seen to begin and lasted as long as a minute does."""
        return self._begun_at is not None and at - self._begun_at >= _LIVE_SECONDS
