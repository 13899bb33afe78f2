"""The HTTP port for the operator: /metrics, /livez and /readyz. Plain, for loopback or the pod network."""

import asyncio
from types import TracebackType

import orjson
from aiohttp import web
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.readiness import Readiness


class OpsServer:
    """`async with OpsServer(address, readiness, registry)` serves until left."""

    def __init__(self, address: str, readiness: Readiness, registry: CollectorRegistry) -> None:
        self._address = address
        self._readiness = readiness
        self._registry = registry
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> "OpsServer":
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self._registry.register(collector)
        app = web.Application(client_max_size=1024)
        app.add_routes(
            [web.get("/metrics", self._metrics), web.get("/livez", _livez), web.get("/readyz", self._readyz)]
        )
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=30, shutdown_timeout=1)
        await self._runner.setup()
        host, _, port = self._address.rpartition(":")
        site = web.TCPSite(self._runner, host.strip("[]"), int(port))
        try:
            await site.start()
        except OSError as exc:
            await self._runner.cleanup()
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE,
                f"{self._address} cannot be bound: it is taken, or not an address of this machine",
            ) from exc
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        body = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _readyz(self, _: web.Request) -> web.Response:
        report = await self._readiness.report()
        checks = {
            name: {"ok": problem is None, "problem": problem or ""}
            for name, problem in report.problems.items()
        }
        body = orjson.dumps({"ready": report.ready, "state": report.state, "checks": checks})
        return web.Response(status=200 if report.ready else 503, body=body, content_type="application/json")


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")
