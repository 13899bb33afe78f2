"""From start to end of a process: signals, resources, background tasks and the order of shutdown.

    def main() -> None:
        run(serve, LedgerConfig.load())

    async def serve(config: LedgerConfig, life: Lifecycle) -> None:
        database = await life.enter(Database(config.require_data_directory() / "ledger.db", MIGRATIONS))
        follower = Follower(database)
        life.spawn("follower", follower.run())
        life.readiness.add("database", database.check)
        server = GrpcServer(config, life)
        server.add(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, LedgerServicer(database))
        await life.serve(server)

On SIGTERM or SIGINT: readiness false, servers drain, then tasks and resources end in the reverse
order of their opening. When a background task ends by itself, readiness becomes false and the process
exits with status 1, so that a supervisor starts it again.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, NoReturn, Protocol, TypeVar

import structlog
import uvloop

from services.runtime import telemetry
from services.runtime.config import ServiceConfig
from services.runtime.errors import MeshError, code_name, guarded
from services.runtime.expiry import note_expiry
from services.runtime.ops import OpsServer
from services.runtime.readiness import Readiness
from services.runtime.tasks import end

T = TypeVar("T")
C = TypeVar("C", bound=ServiceConfig)

_log = structlog.get_logger()

_CLOSE_SECONDS = 20.0
_GC_THRESHOLDS = (50_000, 20, 50)


class Server(Protocol):
    """A server that listens to callers."""

    async def start(self) -> None: ...

    async def stop(self, grace_seconds: float) -> None:
        """Stop accepting, let what runs finish for at most `grace_seconds`, then close."""
        ...


class Lifecycle:
    """Owns what a service opens and starts."""

    def __init__(self, config: ServiceConfig, metrics: telemetry.Metrics | None = None) -> None:
        self.readiness = Readiness()
        self.metrics = metrics or telemetry.Metrics(config.service_name)
        self.stopping = asyncio.Event()
        """Set when shutdown begins. Endless streams wait for it and end."""
        self.failed = False
        self.serving = False
        self._drain_seconds = config.drain_seconds
        self._stack = AsyncExitStack()
        self._on_stop: list[Callable[[], None]] = []

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Open a resource now. It is closed in its turn at the end."""
        return await self._stack.enter_async_context(resource)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` for as long as the service lives; cancelled and awaited in its turn at the end."""
        task = asyncio.create_task(self._watch(name, work), name=name)
        self._stack.push_async_callback(end, task)
        return task

    async def serve(self, *servers: Server) -> None:
        """Start the servers, be ready, wait for the end, drain. The last line of a service's `serve`."""
        self.serving = True
        started: list[Server] = []
        try:
            for server in servers:
                await server.start()
                started.append(server)
            self.readiness.set_state("ready")
            _log.info("service.ready")
            await self.stopping.wait()
        finally:
            self.readiness.set_state("stopping")
            await asyncio.gather(*(server.stop(self._drain_seconds) for server in started))

    def on_stop(self, call: Callable[[], None]) -> None:
        """Have `call` called when shutdown begins, before servers drain: to end endless streams, say."""
        self._on_stop.append(call)

    def stop(self, *, failed: bool = False) -> None:
        """Begin the shutdown; `failed`: the process shall exit with status 1."""
        self.failed = self.failed or failed
        self.readiness.set_state("failed" if failed else "stopping")
        if not self.stopping.is_set():
            self.stopping.set()
            for call in self._on_stop:
                call()

    async def close(self) -> None:
        """End tasks and resources, last opened first."""
        await self._stack.aclose()

    async def _watch(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await guarded(work, "task.crashed")
        except MeshError as err:
            _log.error("task.failed", task=name, code=code_name(err.code), reason=err.reason)
        else:
            _log.error("task.ended", task=name)
        self.stop(failed=True)


def run(serve: Callable[[C, Lifecycle], Coroutine[Any, Any, None]], config: C) -> NoReturn:
    """Run a service to its end and exit: 0 after a signal, 1 when it failed."""
    provider = telemetry.configure(
        config.service_name,
        organisation=config.organisation,
        log_level=config.log_level,
        otlp_endpoint=config.otlp_endpoint,
        trace_ratio=config.trace_ratio,
    )
    # Imported objects live for ever and requests leave few cycles. With Python's defaults a service with many
    # objects spends a tenth of its time on garbage collection.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        status = uvloop.run(_live(serve, config))
    finally:
        provider.shutdown()
    sys.exit(status)


async def _live(serve: Callable[[C, Lifecycle], Coroutine[Any, Any, None]], config: C) -> int:
    life = Lifecycle(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, life, number)
    try:
        await life.enter(OpsServer(config.metrics_address, life.readiness, life.metrics))
        note_expiry(life.metrics, "tls", config.tls.certificate_file)
        await guarded(_until_stopped(serve(config, life), life), "service.crashed")
    except MeshError as err:
        life.failed = True
        _log.error("service.failed", code=code_name(err.code), reason=err.reason)
    finally:
        await _close(life)
    _log.info("service.stopped", status=int(life.failed))
    return int(life.failed)


async def _until_stopped(work: Coroutine[Any, Any, None], life: Lifecycle) -> None:
    """Await `work`; a signal that comes before it serves cancels it."""
    task = asyncio.create_task(work, name="serve")
    stop = asyncio.create_task(life.stopping.wait())
    await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if life.stopping.is_set() and not life.serving:
        await end(task)
        return
    try:
        await task
    except OSError as exc:  # an adapter could not open a resource: the text is for the operator
        raise MeshError.unavailable(str(exc)) from exc
    if not life.stopping.is_set():
        raise MeshError.internal("the service ended by itself")


async def _close(life: Lifecycle) -> None:
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await life.close()
    except TimeoutError:
        life.failed = True
        _log.error("service.close_timed_out")


def _on_signal(life: Lifecycle, number: signal.Signals) -> None:
    _log.info("service.stopping", signal=number.name)
    life.stop()
