"""What an ingest is given to send, and gives back when it gives up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cbmdhi.errors import MeshError

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Entry(Generic[T]):
    """A submission under way.

    raw             the serialized IngestItem
    what            whatever the sender knows it by
    refused         why it cannot even be sent: it is given back as it is, with no result
    may_be_done     a stream on which it was sent broke: that a later sending did nothing says nothing of this
    sent_at         by the loop's clock, on the stream that carries it now
    """

    submission_id: str
    raw: bytes
    what: T
    refused: MeshError | None = None
    may_be_done: bool = False
    stream: object = None
    sent_at: float = 0.0


class GaveUp(Exception):
    """Streams go on breaking, or are refused. `left`: what has no result."""

    def __init__(self, why: MeshError, left: Sequence[Entry[Any]]) -> None:
        super().__init__(str(why))
        self.why = why
        self.left = left
