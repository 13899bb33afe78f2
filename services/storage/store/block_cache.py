"""A cache of roots and envelopes that were stored, replicated or read lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from cbmdhi.protocol import cid as cids

LARGEST = 64 * 1024
"""Bytes of the largest block that is cached."""


class BlockCache:
    """The most recently used blocks by CID, at most `total_bytes`.

    Whoever puts a block in has computed or checked its CID, so blocks from the cache are not checked again.
    """

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes
        self._blocks: OrderedDict[str, bytes] = OrderedDict()

    def get(self, cid: str) -> bytes | None:
        """The block, or None."""
        block = self._blocks.get(cid)
        if block is not None:
            self._blocks.move_to_end(cid)
        return block

    def put_all(self, blocks: Mapping[bytes, bytes]) -> None:
        """`put` for several blocks by binary CID."""
        for name, block in blocks.items():
            if len(block) <= LARGEST:
                self.put(cids.from_bytes(name), block)

    def put(self, cid: str, block: bytes) -> None:
        """Cache a block; the least recently used ones make room for it."""
        if len(block) > LARGEST or cid in self._blocks:
            return
        self._blocks[cid] = block
        self._left -= len(block)
        while self._left < 0:
            _, evicted = self._blocks.popitem(last=False)
            self._left += len(evicted)
