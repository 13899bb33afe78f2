"""What all gateways of a member have to know at once: which proofs were used, and which sessions have ended.

It lies in a bucket of the member's NATS (JetStream, key and value), in memory and for minutes: nothing of it
is worth keeping. While NATS is unavailable no proof can be shown to be new, and none is admitted: REST
answers 503 with a delay until it is back; gRPC, whose tokens are bound to certificates, goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Protocol, TypeVar

import nats.errors
from nats.js import JetStreamContext
from nats.js.api import StorageType
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.errors import Error as JetStreamError
from nats.js.kv import KeyValue

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain.dpop import KEPT_SECONDS
from services.runtime.errors import MeshError

T = TypeVar("T")

BUCKET = "gateway"
LONGEST_TOKEN_SECONDS = 305
"""A token's five minutes, and the leeway of clocks."""
# Half of what NATS may hold in memory: 1,800 proofs a second. Full of them, it takes no more.
_MOST_BYTES = 32 * 1024 * 1024
_SECONDS = 1.0
_RETRY_MS = 1_000
_WATCH_SECONDS = 1.0


class SharedState(Protocol):
    """Of all gateways of the member. Raises MeshError UNAVAILABLE."""

    async def claim(self, proof_id: str, issued_at: int) -> bool:
        """True for who shows this proof first, of all, and since it was made (Unix seconds)."""
        ...

    async def end(self, token_id: str) -> None:
        """Whoever shows this token from now on has none."""
        ...

    async def has_ended(self, token_id: str) -> bool:
        """Whether somebody ended it."""
        ...


class Connection(Protocol):
    """The connection (services.runtime.nats_connection)."""

    generation: int

    @property
    def is_connected(self) -> bool: ...

    def jetstream(self) -> JetStreamContext: ...


class NatsSharedState:
    """The bucket. Made when it is not there: at the start, and after NATS was started anew."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: tuple[int, KeyValue, float] | None = None
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Have the bucket there before it is needed: what was made before it is not admitted."""
        while True:
            if self._connection.is_connected:
                # What goes wrong is said to whoever needs it, and shown by `check`.
                with suppress(MeshError):
                    await self._answer(self._bucket())
            await asyncio.sleep(_WATCH_SECONDS)

    async def check(self) -> str | None:
        """None when it can be used."""
        await self._answer(self._bucket())
        return None

    async def claim(self, proof_id: str, issued_at: int) -> bool:
        """See `SharedState`."""
        bucket, since = await self._answer(self._bucket())
        if issued_at <= since:
            # It may have been used, and the bucket that knew it is gone.
            raise _away("used proofs of earlier are not known any more; send again with a new one")
        try:
            await self._answer(bucket.create(f"p.{proof_id}", b"", msg_ttl=KEPT_SECONDS))
        except KeyWrongLastSequenceError:
            return False
        return True

    async def end(self, token_id: str) -> None:
        """See `SharedState`."""
        bucket, _ = await self._answer(self._bucket())
        await self._answer(bucket.put(f"s.{token_id}", b""))

    async def has_ended(self, token_id: str) -> bool:
        """See `SharedState`."""
        bucket, _ = await self._answer(self._bucket())
        try:
            await self._answer(bucket.get(f"s.{token_id}"))
        except KeyNotFoundError:
            return False
        return True

    async def _bucket(self) -> tuple[KeyValue, float]:
        async with self._lock:
            if self._made is None or self._made[0] != self._connection.generation:
                generation, jetstream = self._connection.generation, self._connection.jetstream()
                bucket = await jetstream.create_key_value(
                    bucket=BUCKET,
                    description="used proofs, ended sessions",
                    ttl=LONGEST_TOKEN_SECONDS,
                    storage=StorageType.MEMORY,
                    max_bytes=_MOST_BYTES,
                    direct=True,
                )
                created = (await jetstream.stream_info(f"KV_{BUCKET}")).created
                self._made = generation, bucket, created.timestamp() if created is not None else 0.0
            return self._made[1], self._made[2]

    async def _answer(self, asked: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(_SECONDS):
                return await asked
        except (KeyWrongLastSequenceError, KeyNotFoundError):
            raise
        except (nats.errors.Error, JetStreamError, APIError, OSError, TimeoutError) as error:
            self._made = None
            raise _away("sessions cannot be checked right now; send again after the delay") from error


def _away(reason: str) -> MeshError:
    return MeshError(code_pb2.CODE_UNAVAILABLE, reason, "", _RETRY_MS)
