"""Compares the clocks of two machines. Each server tells its time with its health, and callers compare.

Fabric refuses a time that is 15 minutes off; tokens and decisions allow much less. With a wrong clock a
service is not ready, rather than failing in part.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import _async as aio_health  # pyright: ignore[reportAttributeAccessIssue]
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.runtime.readiness import Check
from services.runtime.ttl_cache import TtlCache

MOST_SECONDS = 60.0
_TIME_KEY = "cbmdhi-time-ms"
_CALL_SECONDS = 1.5

# Clocks drift apart in hours, and a readiness check is asked each second.
_AGREED_SECONDS = 10.0


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class TellsTime(aio_health.HealthServicer):
    """The health service, which says the server's time with each answer."""

    async def Check(self, request: Any, context: Any) -> Any:
        """As the standard says, and the time in the metadata."""
        await context.send_initial_metadata(((_TIME_KEY, str(int(time.time() * 1000))),))
        return await super().Check(request, context)


def agrees_with(
    channels: Mapping[str, grpc.aio.Channel],
    now: Callable[[], float] = time.time,
    elapsed: Callable[[], float] = time.monotonic,
) -> Check:
    """A readiness check: None while no answering service is more than a minute off. `channels`: by name.

    A service that agreed is asked again after ten seconds, others each time.
    """
    agreed = TtlCache[str, bool](len(channels), seconds=_AGREED_SECONDS, clock=elapsed)

    async def check() -> str | None:
        asked = [name for name in channels if not agreed.get(name)]
        apart = await asyncio.gather(*(_ahead_seconds(channels[name], now) for name in asked))
        for name, ahead in zip(asked, apart, strict=True):
            if ahead is None:
                continue
            if abs(ahead) > MOST_SECONDS:
                how = "ahead of" if ahead > 0 else "behind"
                return (
                    f"this machine's clock is {abs(ahead) / 60:.1f} minutes {how} that of {name};"
                    " set both by a time server (timedatectl set-ntp true)"
                )
            agreed.put(name, True)
        return None

    return check


async def _ahead_seconds(channel: grpc.aio.Channel, now: Callable[[], float]) -> float | None:
    """By how much this clock is at least ahead of the server's; None: it does not tell its time."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    before = now()
    try:
        call = stub.Check(health_pb2.HealthCheckRequest(), timeout=_CALL_SECONDS)
        metadata = dict(await call.initial_metadata())
        await call
        theirs = int(metadata[_TIME_KEY]) / 1000
    except (grpc.aio.AioRpcError, KeyError, ValueError):
        return None
    after = now()
    # Its answer came from some moment between the two.
    return before - theirs if theirs < before else min(after - theirs, 0.0)
