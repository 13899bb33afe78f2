"""What the gateway depends on: services whose own health says whether they can do their work."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.gateway.metrics import GatewayMetrics
from services.runtime.client import call
from services.runtime.errors import MeshError
from services.runtime.readiness import Check

_SECONDS = 1.5
_LOOK_EVERY_SECONDS = 5.0


def check_of(channel: grpc.aio.Channel, name: str) -> Check:
    """A readiness check: None when the service says that it is serving."""
    stub: Any = health_pb2_grpc.HealthStub(channel)

    async def check() -> str | None:
        answer = await call(stub.Check, health_pb2.HealthCheckRequest(), deadline_seconds=_SECONDS)
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return None
        return f"{name} says that it is not serving: see its own /readyz"

    return check


class OptionalBackends:
    """Dependencies without which the gateway does most of its work all the same."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        self._metrics = metrics
        self._checks: dict[str, Check] = {}
        self._well: dict[str, bool] = {}

    def add(self, name: str, check: Check) -> None:
        """Look after one more."""
        self._checks[name] = check

    def well(self) -> dict[str, bool]:
        """Which are there, as of the last look."""
        return {name: self._well.get(name, False) for name in self._checks}

    async def run(self) -> None:
        """Look again and again."""
        while True:
            for name, check in self._checks.items():
                self._well[name] = await _is_well(check)
                self._metrics.degraded.labels(name).set(not self._well[name])
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _is_well(check: Check) -> bool:
    try:
        return await check() is None
    except MeshError:
        return False
