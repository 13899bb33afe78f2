"""Proofs that were used, for as long as they could be used again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from cbmdhi.command.v1 import code_pb2
from services.gateway.domain.dpop import WINDOW_SECONDS
from services.gateway.domain.session import unauthenticated
from services.gateway.refusals import refusals
from services.runtime.errors import MeshError

# A proof may be dated ahead by the window, and is good until the window after that.
_KEPT_SECONDS = 2.0 * WINDOW_SECONDS + 1


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
            with refusals():
                raise unauthenticated("the DPoP proof was used before: make one for each request")
        if len(self._used) >= self._most:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED, "too many requests; send again after the delay", "", 1_000
            )
        self._used[proof_id] = now + _KEPT_SECONDS
