"""The outcome of a batch that is pinned here. It follows only from what the channel names of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from cbmdhi.protocol import replica

MARGIN_MS = 3 * 60 * 1000
"""Added to the lifetime of a receipt: a transaction may be ordered later than its timestamp."""

LEASE_MS = replica.RECEIPT_LIFETIME_MS + MARGIN_MS
"""After this time, by the channel's clock, a receipt can put nothing on the channel any more."""


@dataclass(frozen=True, slots=True)
class Content:
    """A content and the command for which it was sealed. No other command can put it on the channel.

    stated_sha256  hash of what its storage states of it (`replica.stated`); empty for evidence
    """

    cid: str
    command_id: str
    signer: str
    stated_sha256: bytes = b""

    @property
    def sealed(self) -> tuple[str, str, str, bytes]:
        """The argument for `replica.contents`."""
        return self.cid, self.command_id, self.signer, self.stated_sha256


@dataclass(frozen=True, slots=True)
class Quota:
    """How much one other member may have pinned here while the outcome is open."""

    batches: int
    size: int
    """Bytes of CARs."""


@dataclass(frozen=True)
class Lease:
    """A batch that is pinned on behalf of a member and whose outcome is open.

    chunks       CIDs of the chunks of each record that has several blocks, by the record's CID
    held_at_ms   when it was written (Unix ms); 0: no receipt was given, so no command can name it
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
        """`SealedBatch.contents`: what its receipts sign."""
        return replica.contents(one.sealed for one in self.contents)

    @cached_property
    def sealed_sha256(self) -> bytes:
        """`ReplicaReceipt.contents_sha256`."""
        return hashlib.sha256(self.sealed).digest()

    @property
    def blocks(self) -> list[str]:
        """CIDs of all blocks below the root."""
        return self.with_chunks([content.cid for content in self.contents])

    def with_chunks(self, cids: Iterable[str]) -> list[str]:
        """Blocks of some of its records: each record's own CID, and its chunks."""
        return [name for cid in cids for name in (cid, *self.chunks.get(cid, ()))]

    def has_ended(self, channel_time_ms: int, now_ms: int) -> bool:
        """Whether none of its receipts can be used any more.

        Both clocks must say so: the channel's, so that nothing is unpinned while the ledger lags, and the
        own one, so that a wrong clock of others unpins nothing.
        """
        return not self.held_at_ms or min(channel_time_ms, now_ms) > self.held_at_ms + LEASE_MS


def settle(lease: Lease, named: Set[str], decided: Set[Content], *, ended: bool) -> frozenset[str] | None:
    """CIDs of the records that stay for good, when the outcome of each is known; else None.

    named    CIDs below its root that committed records name
    decided  contents whose command has a verdict on the channel: if not named by then, they never will be
    """
    cids = {content.cid for content in lease.contents}
    for content in lease.contents:
        if content.cid not in named and content not in decided and not ended:
            return None
    return frozenset(cids & named)
