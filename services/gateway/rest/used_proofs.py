"""Proofs that were used here, for as long as they could be used again: what is known here needs no question.
Whether another gateway saw them is asked of `services.gateway.sessions.shared_state`."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain.dpop import KEPT_SECONDS
from services.gateway.domain.session import unauthenticated
from services.runtime.errors import MeshError


class UsedProofs:
    """Each proof once. Full of proofs that are still good, it takes no more: to forget one would let it in
    again."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._used: OrderedDict[str, float] = OrderedDict()

    def use(self, proof_id: str) -> None:
        """Raises MeshError UNAUTHENTICATED for one that was used, RESOURCE_EXHAUSTED when full."""
        now = self._clock()
        while self._used and next(iter(self._used.values())) <= now:
            self._used.popitem(last=False)
        if proof_id in self._used:
            raise used_before()
        if len(self._used) >= self._most:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED, "too many requests; send again after the delay", "", 1_000
            )
        self._used[proof_id] = now + KEPT_SECONDS


def used_before() -> MeshError:
    """Why a proof is not admitted."""
    return unauthenticated("the DPoP proof was used before: make one for each request")
