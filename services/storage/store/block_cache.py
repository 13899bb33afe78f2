"""Envelopes that were stored, replicated or read lately, and roots: what is asked for soon if at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from cbmdhi.protocol import cid as cids

LARGEST = 64 * 1024
"""Bytes of a block that is kept; larger ones are the Kubo node's."""


class BlockCache:
    """The last used blocks by CID, `total_bytes` of them at most.

    Whoever puts a block in has computed its CID or checked it: what comes out is not checked again.
    """

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes
        self._blocks: OrderedDict[str, bytes] = OrderedDict()

    def get(self, cid: str) -> bytes | None:
        """The block, unless it was pushed out."""
        block = self._blocks.get(cid)
        if block is not None:
            self._blocks.move_to_end(cid)
        return block

    def put_all(self, blocks: Mapping[bytes, bytes]) -> None:
        """`put` for blocks by binary CID."""
        for name, block in blocks.items():
            if len(block) <= LARGEST:
                self.put(cids.from_bytes(name), block)

    def put(self, cid: str, block: bytes) -> None:
        """Keep a block; the least used go when there are too many bytes."""
        if len(block) > LARGEST or cid in self._blocks:
            return
        self._blocks[cid] = block
        self._left -= len(block)
        while self._left < 0:
            _, pushed_out = self._blocks.popitem(last=False)
            self._left += len(pushed_out)
