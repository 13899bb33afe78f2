"""Is this machine's clock that of the own chaincode, and that of the channel? Nobody endorses for who is off.

An endorser refuses a time that is more than a minute from its own clock. So the own chaincode's refusal tells
of a ledger that is off alone, and the channel's minutes (docs/adr/0021-the-channels-time.md) of a member that
is off as a whole: a majority's clocks agreed to each. Another member's refusal alone tells nothing.
"""

import time
from collections.abc import Callable

from services.runtime.clock import MOST_SECONDS

EPOCH_SECONDS = 60
# A minute may be begun so much before its time, and told so much after its end: endorsers' clocks allow it.
_ALLOWED_SECONDS = 60.0
# A peer that fetches what it missed passes through minutes faster; one that is at the channel's end does not.
_LIVE_SECONDS = 30.0
_SET_BOTH = "set both by a time server (timedatectl set-ntp true)"


class ChannelClock:
    """Told what the own peer answers; `check` is for readiness.

    now      this machine's clock, Unix seconds
    elapsed  one that nobody sets, seconds
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
        """The own chaincode finds this machine's time too far from its own."""
        self._refused = True

    def seen(self, newest: int) -> None:
        """The own chaincode takes this machine's time; `newest`: the last minute that the channel knows."""
        self._refused = False
        now, at = self._now(), self._elapsed()
        minute = int(now) // EPOCH_SECONDS
        if newest * EPOCH_SECONDS - now > _ALLOWED_SECONDS + MOST_SECONDS:
            self._apart = f"{newest - minute} minutes behind"
        elif newest >= minute:
            self._apart = ""
        elif newest == self._newest + 1 and self._is_live(at):
            # It began since the last look: then it was this late at most, by a majority's clocks.
            latest = (newest + 1) * EPOCH_SECONDS + _ALLOWED_SECONDS + (at - self._looked_at)
            self._apart = f"{minute - newest} minutes ahead of" if now > latest else ""
        if newest != self._newest:
            self._begun_at = at if self._newest else None
            self._newest = newest
        self._looked_at = at

    async def check(self) -> str | None:
        """For readiness. A channel that stands still says nothing of a clock."""
        if self._refused:
            return (
                "this machine's clock is more than a minute off that of the own chaincode, which endorses"
                f" nothing from here; {_SET_BOTH}"
            )
        return f"this machine's clock is {self._apart} the channel's; {_SET_BOTH}" if self._apart else None

    def _is_live(self, at: float) -> bool:
        """The minute before was seen to begin, and lasted as long as one does."""
        return self._begun_at is not None and at - self._begun_at >= _LIVE_SECONDS
