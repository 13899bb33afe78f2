"""How many bytes may be worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import MeshError

_RETRY_AFTER_MS = 250


class ByteBudget:
    """A bound on memory: what does not fit is refused at once and may be sent again."""

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Take `size` bytes while the block runs. Raises MeshError RESOURCE_EXHAUSTED."""
        if size > self._left:
            raise MeshError(
                code_pb2.CODE_RESOURCE_EXHAUSTED,
                "storage works on as much as it may at a time; send the same again",
                retry_after_ms=_RETRY_AFTER_MS,
            )
        self._left -= size
        try:
            yield
        finally:
            self._left += size
