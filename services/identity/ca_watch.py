"""Watches whether the Fabric CA answers. Readiness does not depend on it.

Sessions, reviews and registrations need no CA. So when it is unavailable there is a metric, a log line and an
error of enrolment only.
"""

from __future__ import annotations

import asyncio

import structlog

from services.identity.fabric_ca import FabricCa
from services.runtime import telemetry
from services.runtime.errors import MeshError, code_name

_EVERY_SECONDS = 5.0

_log = structlog.get_logger()


class CaWatch:
    """Asks again and again; `up` says how the last answer was."""

    def __init__(
        self, ca: FabricCa, metrics: telemetry.Metrics, *, every_seconds: float = _EVERY_SECONDS
    ) -> None:
        self._ca = ca
        self._every_seconds = every_seconds
        self._gauge = metrics.gauge("fabric_ca_up", "bool", "1 when the Fabric CA answered the last probe")
        self.up: bool | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.probe()
            await asyncio.sleep(self._every_seconds)

    async def probe(self) -> None:
        """Ask once, and log when the answer changed."""
        try:
            await self._ca.info()
        except MeshError as error:
            if self.up is not False:
                _log.warning("fabric_ca.away", code=code_name(error.code), reason=error.reason)
            self.up = False
        else:
            if self.up is False:
                _log.info("fabric_ca.back")
            self.up = True
        self._gauge.set(int(self.up))
