"""Blocks by CID, from the own Kubo node or else from another member. Each is checked, and repaired here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import envelope
from services.runtime.concurrency import together
from services.runtime.errors import MeshError, code_name
from services.storage.domain import batch
from services.storage.metrics import StorageMetrics
from services.storage.store.block_cache import BlockCache
from services.storage.store.kubo import Kubo
from services.storage.store.member_clients import MemberClients
from services.storage.store.pins import Pins

_log = structlog.get_logger()

_CHUNKS_AT_ONCE = 4


class Blocks:
    """Finds blocks. A block from another member is put back here when this member ought to hold it."""

    def __init__(
        self,
        own_msp: str,
        store: Kubo,
        block_cache: BlockCache,
        pins: Pins,
        members: MemberClients,
        metrics: StorageMetrics,
    ) -> None:
        self._own_msp = own_msp
        self._store = store
        self._block_cache = block_cache
        self._pins = pins
        self._members = members
        self._metrics = metrics

    async def record(self, cid: str, replicas: Sequence[str]) -> list[bytes]:
        """The blocks of an envelope, root first. `replicas`: MSP ids of its holders.

        Raises MeshError NOT_FOUND, INTEGRITY, UNAVAILABLE.
        """
        missing: list[tuple[str, bytes]] = []
        root = self._block_cache.get(cid)
        if root is None:
            root = await self._find(cid, replicas, missing)
            self._block_cache.put(cid, root)
        try:
            chunks = envelope.chunk_cids(root)
        except envelope.CannotOpen as exc:
            raise self._metrics.differed(
                "envelope", "what lies under the record's CID is no envelope"
            ) from exc
        if len(chunks) > batch.MAX_CONTENT_BYTES // envelope.CHUNK_BYTES + 1:
            raise MeshError.integrity("the envelope names more chunks than a content can have")
        at_once = asyncio.Semaphore(_CHUNKS_AT_ONCE)

        async def chunk(name: str) -> bytes:
            async with at_once:
                return await self._find(name, replicas, missing)

        blocks = [root, *await together(chunk(name) for name in chunks)]
        if missing and self._own_msp in replicas:
            await self._mend(batch.pack(sorted(missing)), [name for name, _ in missing])
        return blocks

    async def blob(self, cid: str, *, ours: bool) -> bytes:
        """One block by its CID. `ours`: this member ought to hold it.

        Raises MeshError INVALID (no such CID), NOT_FOUND, INTEGRITY, UNAVAILABLE.
        """
        missing: list[tuple[str, bytes]] = []
        block = await self._find(_known_form(cid), (), missing)
        if missing and ours:
            await self._mend(batch.pack_blob(block), [cid])
        return block

    async def own(self, cid: str) -> bytes:
        """A block that this member itself holds.

        Raises MeshError INVALID, NOT_FOUND, INTEGRITY, UNAVAILABLE.
        """
        block = await self._store.get(_known_form(cid))
        if block is None:
            raise MeshError.not_found("this member does not hold that block; ask another")
        return block

    async def _find(self, cid: str, replicas: Sequence[str], missing: list[tuple[str, bytes]]) -> bytes:
        """A block. Added to `missing` if the own node answers, but lacks it or has it damaged."""
        mendable, faults = True, set[int]()
        try:
            block = await self._store.get(cid)
        except MeshError as err:
            _log.warning("block.own_failed", code=code_name(err.code))
            mendable, block = err.code == code_pb2.CODE_INTEGRITY, None
            faults.add(err.code)
        if block is not None:
            return block
        for msp in self._order(replicas):
            try:
                block = await self._fetch(msp, cid)
            except MeshError as err:
                faults.add(err.code)
                continue
            if mendable:
                missing.append((cid, block))
            return block
        raise _nowhere(faults)

    async def _fetch(self, msp: str, cid: str) -> bytes:
        block = await self._members.fetch_block(msp, cid)
        try:
            cids.check(cid, block)
        except cids.HashMismatch as exc:
            self._metrics.count_check("member", matched=False)
            _log.error("block.member_failed", member=msp, code="INTEGRITY")
            raise self._metrics.differed(
                "member-block", "a member gave other bytes than the CID names"
            ) from exc
        self._metrics.count_check("member", matched=True)
        return block

    async def _mend(self, packed: batch.Packed, names: Sequence[str]) -> None:
        """Put blocks back and check that they are there: Kubo keeps a block that it has, even a damaged one.

        A failure is logged only, since the reader has the blocks.
        """
        try:
            await self._pins.mend(packed, self._own_msp)
            mended = sum([await self._store.get(name) is not None for name in names])
        except MeshError as err:
            _log.error("block.not_mended", code=code_name(err.code), count=len(names))
            return
        self._metrics.repaired.inc(mended)
        _log.warning("block.mended", count=mended)

    def _order(self, replicas: Iterable[str]) -> list[str]:
        reachable = self._members.msps
        return [msp for msp in dict.fromkeys((*replicas, *reachable)) if msp in reachable]


def _known_form(cid: str) -> str:
    try:
        cids.to_bytes(cid)
    except ValueError as exc:
        raise MeshError.invalid("that is no CIDv1 in base32 of raw or dag-cbor with SHA-256", "cid") from exc
    return cid


def _nowhere(faults: set[int]) -> MeshError:
    if code_pb2.CODE_INTEGRITY in faults:
        return MeshError.integrity("what is stored does not match its CID and no member has it unchanged")
    if faults <= {code_pb2.CODE_NOT_FOUND}:
        return MeshError.not_found("no member that answers holds that block")
    return MeshError.unavailable(
        "the block is not here and members that may hold it do not answer; try again"
    )
