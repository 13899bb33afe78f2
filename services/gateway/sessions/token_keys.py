"""The keys that verify this member's tokens, fetched when they are needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import orjson
import structlog
from joserfc.jwk import ECKey

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain import jose
from services.runtime.errors import MeshError, code_name

_log = structlog.get_logger()

_OLD_SECONDS = 300.0
_PAUSE_SECONDS = 1.0


class TokenKeys:
    """Keys by `kid`. Fetched again for an unknown one (once a second at most) and when they are old."""

    def __init__(
        self, fetch: Callable[[], Awaitable[str]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, ECKey] = {}
        self._fetched_at = -_OLD_SECONDS
        self._tried_at = -_PAUSE_SECONDS
        self._lock = asyncio.Lock()

    async def key(self, kid: object) -> ECKey | None:
        """The key of that name; None when identity has none. Raises MeshError UNAVAILABLE without any."""
        if self._is_missing(kid):
            async with self._lock:
                if self._is_missing(kid) and self._clock() - self._tried_at >= _PAUSE_SECONDS:
                    await self._refresh()
        if not self._keys:
            raise MeshError(
                code_pb2.CODE_UNAVAILABLE, "tokens cannot be verified right now; send again", "", 1_000
            )
        return self._keys.get(kid) if isinstance(kid, str) else None

    def _is_missing(self, kid: object) -> bool:
        unknown = not isinstance(kid, str) or kid not in self._keys
        return unknown or self._clock() - self._fetched_at >= _OLD_SECONDS

    async def _refresh(self) -> None:
        self._tried_at = self._clock()
        try:
            document = orjson.loads(await self._fetch())
            fetched = {jwk["kid"]: jose.public_key(jwk) for jwk in document["keys"]}
        except MeshError as err:
            # Keys that were good stay good while identity is unavailable.
            _log.warning("token_keys.not_fetched", code=code_name(err.code), reason=err.reason)
            return
        except (orjson.JSONDecodeError, jose.Malformed, KeyError, TypeError) as exc:
            _log.error("token_keys.malformed", error_type=type(exc).__qualname__)
            return
        self._keys, self._fetched_at = fetched, self._clock()
