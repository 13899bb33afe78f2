"""The connection to the member's NATS server."""

import asyncio
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import nats
import nats.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext

from services.runtime.config import Nats
from services.runtime.errors import MeshError, guarded
from services.runtime.tasks import end

_log = structlog.get_logger()

_CONNECT_SECONDS = 2
_CONNECTED_WITHIN_SECONDS = 20.0
_RETRY_SECONDS = 0.25
_PING_SECONDS = 5
_DRAIN_SECONDS = 5.0
_GIVE_UP_SECONDS = 1.0
_API_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_MOST_LOOKS_AWAY = 20


class NatsConnection:
    """One TLS connection that reconnects by itself, also when NATS is down at the start.

    `async with NatsConnection(config.nats, "ledger")` returns at once and connects in the background.
    The name is the service's. The server permits a service the subjects of its certificate, and answers under
    its name.
    """

    def __init__(self, config: Nats, name: str) -> None:
        self._config = config
        self._name = name
        self._client: Client | None = None
        self._closed = asyncio.Event()
        self._connected = asyncio.Event()
        self._connection_task: asyncio.Task[None] | None = None
        self.generation = 0
        """Counts connections. After a new one, consumers on the server may be gone."""

    async def __aenter__(self) -> "NatsConnection":
        self._connection_task = asyncio.create_task(self._keep(), name="nats-link")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection_task is not None:
            await end(self._connection_task, again_after_seconds=0.2)
        if self._client is not None and not self._client.is_closed:
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self._client.drain()
            except (nats.errors.Error, OSError, TimeoutError):
                await self._give_up(self._client)

    @property
    def is_connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    async def wait_connected(self) -> None:
        """Wait until connected."""
        while not self.is_connected:
            self._connected.clear()
            await self._connected.wait()

    def jetstream(self) -> JetStreamContext:
        """JetStream of the connection. Raises MeshError UNAVAILABLE when there is none."""
        if self._client is None or not self._client.is_connected:
            raise MeshError.unavailable("NATS is not connected; send again", retry_after_ms=500)
        return self._client.jetstream(timeout=_API_SECONDS)

    async def check(self) -> str | None:
        """For readiness."""
        if self._connection_task is None or self._connection_task.done():
            return "the keeper of the connection to NATS ended; restart the service"
        return None if self.is_connected else "NATS is not connected; see that its server runs"

    async def _keep(self) -> None:
        """Connect, and again with a new client whenever the library gives up, as after a refusal."""
        while True:
            self._closed.clear()
            try:
                await guarded(self._connected_once(), "nats.crashed")
            except MeshError:
                # The library raises many undocumented exceptions when the other side is no NATS server.
                await self._release()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _connected_once(self) -> None:
        """Connect, and return when the library has given up, even without telling."""
        try:
            # The library waits for ever for a server that hangs during the handshake.
            await _by_itself(self._connect(), _CONNECTED_WITHIN_SECONDS)
        except (nats.errors.Error, OSError) as exc:
            _log.warning("nats.refused", error_type=type(exc).__qualname__)
            await self._release()
            return
        looks_away = 0
        while not self._closed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._closed.wait()
            looks_away = 0 if self.is_connected else looks_away + 1
            if looks_away > _MOST_LOOKS_AWAY:
                # Its reconnecting task can end without telling anybody. A new client costs nothing.
                _log.warning("nats.anew", attempt=self.generation)
                await self._release()
                return

    async def _release(self) -> None:
        if self._client is not None and not self._client.is_closed:
            await self._give_up(self._client)

    async def _connect(self) -> None:
        self._client = Client()
        await self._client.connect(
            servers=[self._config.url],
            name=self._name,
            # A prefix of its own, so that no other service hears the answers.
            inbox_prefix=f"_INBOX.{self._name}",
            tls=_tls_context(self._config),
            connect_timeout=_CONNECT_SECONDS,
            reconnect_time_wait=_RETRY_SECONDS,  # pyright: ignore[reportArgumentType] - slept as it is
            max_reconnect_attempts=-1,
            ping_interval=_PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_connected,
            closed_cb=self._on_closed,
        )
        await self._on_connected()

    async def _give_up(self, client: Client) -> None:
        """Close without a server. Unsent messages are lost, as they would be a moment later."""
        try:
            # It waits for ever for a connection that was given up during the handshake.
            await _by_itself(client.close(), _GIVE_UP_SECONDS)
        except (AttributeError, nats.errors.Error, OSError) as exc:
            # The library writes the rest to the lost connection, which does not exist under TLS.
            _log.debug("nats.error", error_type=type(exc).__qualname__)

    async def _on_connected(self) -> None:
        self.generation += 1
        self._connected.set()
        _log.info("nats.connected", attempt=self.generation)

    async def _on_disconnected(self) -> None:
        _log.warning("nats.disconnected")

    async def _on_closed(self) -> None:
        self._closed.set()

    async def _on_error(self, error: Exception) -> None:
        _log.debug("nats.error", error_type=type(error).__qualname__)


async def _by_itself(work: Coroutine[Any, Any, None], seconds: float) -> None:
    """Run the library's coroutine as a task of its own. Raises its exceptions, and TimeoutError.

    The library may cancel the task that it runs in. In the caller's task that would silently end the caller.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
    finally:
        task.cancel()
    if not task.done() or task.cancelled():
        raise TimeoutError
    task.result()


def _tls_context(config: Nats) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=config.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(config.certificate_file, config.key_file)
    return context
