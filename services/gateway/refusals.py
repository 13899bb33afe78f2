"""From the rules' refusals to the mesh's one error type, at one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.gateway.domain.refusal import Refused
from services.runtime.errors import MeshError


def as_error(refused: Refused) -> MeshError:
    """The same, as a MeshError."""
    return MeshError(refused.code, refused.reason, refused.path)


@contextmanager
def refusals() -> Iterator[None]:
    """A refusal of the rules leaves as a MeshError."""
    try:
        yield
    except Refused as refused:
        raise as_error(refused) from refused
