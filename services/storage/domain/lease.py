"""What becomes of a batch that is pinned here, told by what the channel names of it and by nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from cbmdhi.protocol import replica

MARGIN_MS = 3 * 60 * 1000
"""On top of a receipt's lifetime: a transaction may be ordered some time after its own, and clocks differ."""

LEASE_MS = replica.RECEIPT_LIFETIME_MS + MARGIN_MS
"""After so long, by the channel's own time, nothing can be put on the channel with the receipt any more."""


@dataclass(frozen=True, slots=True)
class Content:
    """A content and the command for which it was sealed: by no other can it get onto the channel.

    stated_sha256  what its storage says of it (`replica.stated`); empty for evidence
    """

    cid: str
    command_id: str
    signer: str
    stated_sha256: bytes = b""

    @property
    def sealed(self) -> tuple[str, str, str, bytes]:
        """As `replica.contents` takes it."""
        return self.cid, self.command_id, self.signer, self.stated_sha256


@dataclass(frozen=True, slots=True)
class Quota:
    """What one other member may have pinned here while the fate of it is open."""

    batches: int
    size: int
    """Bytes of CARs."""


@dataclass(frozen=True)
class Lease:
    """A batch that is pinned on behalf of a member, and whose fate is open.

    chunks       of the records that lie in several blocks, by the record's CID
    held_at_ms   when it was written (Unix ms); 0: no receipt was ever given, so nothing can name it
    """

    root_cid: str
    msp: str
    contents: tuple[Content, ...]
    chunks: Mapping[str, tuple[str, ...]]
    held_at_ms: int

    def __hash__(self) -> int:
        return hash((self.root_cid, self.msp))

    @cached_property
    def sealed(self) -> bytes:
        """`SealedBatch.contents`: what its receipts are about."""
        return replica.contents(one.sealed for one in self.contents)

    @cached_property
    def sealed_sha256(self) -> bytes:
        """`ReplicaReceipt.contents_sha256`."""
        return hashlib.sha256(self.sealed).digest()

    @property
    def blocks(self) -> list[str]:
        """Everything below the root."""
        return self.with_chunks([content.cid for content in self.contents])

    def with_chunks(self, cids: Iterable[str]) -> list[str]:
        """Blocks of some of its records: each record's own CID, and its chunks."""
        return [name for cid in cids for name in (cid, *self.chunks.get(cid, ()))]

    def has_ended(self, channel_time_ms: int, now_ms: int) -> bool:
        """Whether no receipt of it can be used any more.

        By the channel's time, so that a ledger that lags lets nothing go, and by the own clock, so that
        nobody's wrong clock does.
        """
        return not self.held_at_ms or min(channel_time_ms, now_ms) > self.held_at_ms + LEASE_MS


def settle(lease: Lease, named: Set[str], decided: Set[Content], *, ended: bool) -> frozenset[str] | None:
    """CIDs of the records that stay for good, when the fate of each is known; None when it is not.

    named    CIDs below its root that committed records name
    decided  contents whose command has a verdict on the channel: not named then, it never will be
    """
    cids = {content.cid for content in lease.contents}
    for content in lease.contents:
        if content.cid not in named and content not in decided and not ended:
            return None
    return frozenset(cids & named)
