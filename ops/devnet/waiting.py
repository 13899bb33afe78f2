"""Waiting for conditions, each with a deadline. Nothing here sleeps for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

from ops.devnet.errors import NotReady

T = TypeVar("T")


def until(
    condition: Callable[[], T | None],
    what: str | Callable[[], str],
    seconds: float,
    *,
    remedy: str | Callable[[], str] = "",
    interval: float = 0.1,
    give_up: Callable[[], str | None] = lambda: None,
) -> T:
    """Ask `condition` until it gives something true; that.

    Raises:
        NotReady: not within `seconds`, or `give_up` said why it never will.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        reason = give_up()
        if reason or time.monotonic() > deadline:
            awaited = what() if callable(what) else what
            advice = remedy() if callable(remedy) else remedy
            raise NotReady(reason or f"{awaited} did not come within {seconds:.0f} s.", advice)
        time.sleep(interval)
