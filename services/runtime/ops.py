"""The HTTP port for the operator: /metrics, /livez and /readyz. Plain, for loopback or the pod network."""

import asyncio

import orjson
from aiohttp import web
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.exposition import choose_encoder

from services.runtime.errors import cannot_bind
from services.runtime.readiness import Readiness, Report
from services.runtime.tasks import end
from services.runtime.telemetry import Metrics

# Prometheus does not wait for long, and a service whose dependency hangs must not seem to hang itself.
_PATIENCE_SECONDS = 0.5


class OpsServer:
    """`async with OpsServer(address, readiness, metrics)` serves until left."""

    def __init__(self, address: str, readiness: Readiness, metrics: Metrics) -> None:
        self._address = address
        self._readiness = readiness
        self._registry = metrics.registry
        self._ready = metrics.gauge("ready", "bool", "1 when the service can do its work, as /readyz says")
        self._runner: web.AppRunner | None = None
        self._services = metrics.gauge(
            "dependency_ready",
            "bool",
            "1 when a service that it works with says that it serves",
            ("dependency",),
        )
        self._report_task: asyncio.Task[Report] | None = None
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
            raise cannot_bind(self._address) from exc
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._report_task is not None:
            await end(self._report_task)

    async def _metrics(self, request: web.Request) -> web.Response:
        # The result of a slower check is shown the next time.
        if self._report_task is None or self._report_task.done():
            self._report_task = asyncio.create_task(self._report(), name="readiness")
        await asyncio.wait({self._report_task}, timeout=_PATIENCE_SECONDS)
        # Exemplars exist only in OpenMetrics, for which Prometheus asks.
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = await asyncio.to_thread(encode, self._registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _report(self) -> Report:
        report = await self._readiness.report()
        self._ready.set(int(report.ready))
        for name in self._readiness.services:
            self._services.labels(name).set(int(report.problems.get(name) is None))
        return report

    async def _readyz(self, _: web.Request) -> web.Response:
        report = await self._report()
        checks = {
            name: {"ok": problem is None, "problem": problem or ""}
            for name, problem in report.problems.items()
        }
        said = {"ready": report.ready, "state": report.state, "checks": checks}
        if optional := self._readiness.optional():
            said["optional"] = {name: {"ok": well} for name, well in optional.items()}
        body = orjson.dumps(said)
        return web.Response(status=200 if report.ready else 503, body=body, content_type="application/json")


async def _livez(_: web.Request) -> web.Response:
    return web.Response(text="alive\n")
