"""Where the copies of a batch go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def candidates(root_cid: str, own_msp: str, members: Iterable[str]) -> tuple[str, ...]:
    """The other members in the order of asking, by rendezvous hash, so that the load is even."""
    others = {msp for msp in members if msp != own_msp}
    return tuple(sorted(others, key=lambda msp: hashlib.sha256(f"{root_cid}\x00{msp}".encode()).digest()))


def copies_elsewhere(min_replicas: int) -> int:
    """How many other members must hold a batch when `min_replicas`, the writer included, must."""
    return max(0, min_replicas - 1)
