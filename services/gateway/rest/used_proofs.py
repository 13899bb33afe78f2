"""Proofs that were used here, for as long as they could be used again: what is known here needs no question.
Whether another gateway saw them is asked of `services.gateway.sessions.shared_state`."""

from __future__ import annotations

import time
from collections.abc import Callable

from services.gateway.domain.dpop import KEPT_SECONDS
from services.gateway.domain.session import unauthenticated
from services.runtime.errors import MeshError
from services.runtime.used_once import UsedOnce


class UsedProofs:
    """Each proof once, at most so many at a time."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._used = UsedOnce(KEPT_SECONDS, most)

    def use(self, proof_id: str) -> None:
        """Raises MeshError UNAUTHENTICATED for one that was used, RESOURCE_EXHAUSTED when full."""
        now = self._clock()
        if self._used.has(proof_id, now):
            raise used_before()
        if self._used.wait(now):
            raise MeshError.resource_exhausted(
                "too many requests; send again after the delay", retry_after_ms=1_000
            )
        self._used.note(proof_id, now)


def used_before() -> MeshError:
    """Why a proof is not admitted."""
    return unauthenticated("the DPoP proof was used before: make one for each request")
