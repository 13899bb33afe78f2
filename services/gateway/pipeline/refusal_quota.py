"""What refused commands may cost: so many of one client's at once, and so many a second.

One that is refused costs the member up to what a committed one costs, and ends in nothing. Who sends such
without end is not read for a while: HTTP/2's flow control stops the sender, and nothing is lost.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError
from services.runtime.token_bucket import TokenBucket
from services.runtime.ttl_cache import TtlCache

_CLIENTS = 10_000
# Not the sender's doing: the mesh's, or another's who was quicker. Of an expired command somebody asks what
# became of it: after an outage an engine has thousands, and costs with each what a committed one would.
_BLAMELESS = frozenset(
    (
        code_pb2.CODE_OK,
        code_pb2.CODE_ALREADY_COMMITTED,
        code_pb2.CODE_CONFLICT,
        code_pb2.CODE_EXPIRED,
        code_pb2.CODE_RESOURCE_EXHAUSTED,
        code_pb2.CODE_UNAVAILABLE,
        code_pb2.CODE_DEADLINE_EXCEEDED,
        code_pb2.CODE_UNKNOWN_OUTCOME,
        code_pb2.CODE_ENDORSEMENT_FAILED,
        code_pb2.CODE_INTERNAL,
    )
)


class RefusalQuota:
    """Of one client, by whichever way it writes or reads. `clock` in seconds, never going back."""

    def __init__(self, bucket: TokenBucket, clock: Callable[[], float]) -> None:
        self._bucket = bucket
        self._clock = clock

    def note(self, code: int, commands: int = 1) -> None:
        """A submission was answered; of one refused through the sender's own doing each command is spent."""
        if code not in _BLAMELESS:
            self._bucket.spend(self._clock(), commands)

    def wait_seconds(self) -> float:
        """How long to read nothing from the client; 0 while something is left."""
        return self._bucket.wait_seconds(self._clock())

    @contextmanager
    def charged(self, commands: int = 1) -> Iterator[None]:
        """What the block is refused with counts, for so many commands."""
        try:
            yield
        except MeshError as err:
            self.note(err.code, commands)
            raise

    def check(self) -> None:
        """Raises MeshError RESOURCE_EXHAUSTED, with the delay, while nothing is left."""
        if (seconds := self.wait_seconds()) > 0:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                "too much of what this caller asked for was refused: mend it; send again after the delay",
                retry_after_ms=math.ceil(seconds * 1000),
                outcome=code_pb2.OUTCOME_NOT_DONE,
            )


class RefusalQuotas:
    """Each client's, whichever of its streams it uses.

    most          refused submissions at once
    per_second    and so many more each second
    debt_seconds  for which a client waits at most, however much was refused of what was under way already
    """

    def __init__(
        self,
        most: int,
        per_second: float,
        debt_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._per_second, self._debt_seconds = most, per_second, debt_seconds
        self._clock = clock
        self._known: TtlCache[str, RefusalQuota] = TtlCache(_CLIENTS)

    def of(self, address: str) -> RefusalQuota:
        """That of the client with this address."""
        known = self._known.get(address)
        if known is None:
            known = RefusalQuota(TokenBucket(self._most, self._per_second, self._debt_seconds), self._clock)
            self._known.put(address, known)
        return known
