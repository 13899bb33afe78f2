"""The deadline of the RPC that is being answered, so that calls made for it do not outlive it."""

import asyncio
from contextvars import ContextVar

current_deadline: ContextVar[float | None] = ContextVar("current_deadline", default=None)
"""Loop time at which the RPC being answered ends; set by the server's interceptor."""


def remaining_seconds() -> float | None:
    """Seconds left for the RPC that is being answered; None when there is none or it has no deadline."""
    ends_at = current_deadline.get()
    return None if ends_at is None else max(0.0, ends_at - asyncio.get_running_loop().time())
