"""Evidence: blobs that come sealed already, kept like batches, and given by CID."""

from __future__ import annotations

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid as cids
from services.runtime.errors import MeshError
from services.storage.blocks import Blocks
from services.storage.domain import batch, placement
from services.storage.keeper import Keeper, Placement
from services.storage.roots import Roots
from services.storage.sealing import Register


class Blobs:
    """Keeps and gives blobs."""

    def __init__(
        self, own_msp: str, register: Register, keeper: Keeper, blocks: Blocks, roots: Roots
    ) -> None:
        self._own_msp = own_msp
        self._register = register
        self._keeper = keeper
        self._blocks = blocks
        self._roots = roots

    async def put(self, blob: bytes, cid: str) -> tuple[str, ...]:
        """Store a blob with its copies; gives who holds it, the own member first. Idempotent.

        Raises MeshError TOO_LARGE, INVALID, UNAVAILABLE.
        """
        if len(blob) > batch.MAX_BLOB_BYTES:
            raise MeshError(
                code_pb2.CODE_TOO_LARGE, f"a blob has at most {batch.MAX_BLOB_BYTES // batch.MIB} MiB", "blob"
            )
        if not blob or cids.raw(blob) != cid:
            raise MeshError(
                code_pb2.CODE_INVALID, "the CID is not that of the blob (CIDv1, raw, SHA-256, base32)", "cid"
            )
        consortium = await self._register.consortium()
        place = Placement(placement.copies_elsewhere(consortium.min_replicas), consortium.signing_keys)
        return (await self._keeper.store(batch.pack_blob(blob), place)).holders

    async def get(self, cid: str) -> bytes:
        """A block by its CID. Raises MeshError INVALID, NOT_FOUND, INTEGRITY, UNAVAILABLE."""
        return await self._blocks.blob(cid, ours=await self._roots.holds(cid, self._own_msp))
