"""Evidence: blobs that are sealed already, stored like batches and given by CID."""

from __future__ import annotations

from cbmdhi.protocol import address, envelope, ids
from cbmdhi.protocol import cid as cids
from services.runtime.errors import MeshError
from services.storage.channel.ledger import Ledger
from services.storage.domain import batch, placement
from services.storage.domain.lease import Content
from services.storage.store.batch_store import BatchStore, Placement
from services.storage.store.blocks import Blocks
from services.storage.store.leases import Leases


class Blobs:
    """Stores blobs, and gives blobs and envelopes."""

    def __init__(
        self, own_msp: str, register: Ledger, batch_store: BatchStore, blocks: Blocks, leases: Leases
    ) -> None:
        self._own_msp = own_msp
        self._register = register
        self._batch_store = batch_store
        self._blocks = blocks
        self._leases = leases

    async def put(self, blob: bytes, cid: str, command_id: str, signer: str) -> tuple[str, ...]:
        """Store a blob with its copies, until the outcome of the registration that names it is known.

        Gives the MSP ids of its holders, the own member first. Idempotent.
        Raises MeshError TOO_LARGE, INVALID, UNAVAILABLE.
        """
        if len(blob) > batch.MAX_BLOB_BYTES:
            raise MeshError.too_large(f"a blob has at most {batch.MAX_BLOB_BYTES // batch.MIB} MiB", "blob")
        if not blob or cids.raw(blob) != cid:
            raise MeshError.invalid("the CID is not that of the blob (CIDv1, raw, SHA-256, base32)", "cid")
        if not ids.is_uuid7(command_id) or not address.is_address(signer):
            raise MeshError.invalid("name the command of the registration and its signer", "command_id")
        consortium = await self._register.consortium()
        place = Placement(placement.copies_elsewhere(consortium.min_replicas), consortium.signing_keys)
        packed = batch.pack_blob(blob)
        lease = self._batch_store.lease(packed, (Content(cid, command_id, signer),))
        seal = await self._leases.seal_of(lease)
        if seal is None:
            seal = await self._batch_store.store(packed, lease, place)
            await self._batch_store.stand(lease, seal, (), ())
        return tuple(receipt.msp for receipt in seal.receipts)

    async def get(self, cid: str) -> bytes:
        """A block by its CID. Raises MeshError INVALID, NOT_FOUND, INTEGRITY, UNAVAILABLE."""
        return await self._blocks.blob(cid, ours=await self._leases.holds(cid, self._own_msp))

    async def envelope(self, cid: str) -> bytes:
        """The root block of a record's envelope. Raises MeshError as `get` does.

        FORBIDDEN for any other block: evidence is only for its reviewers, whom identity knows.
        """
        block = await self.get(cid)
        try:
            envelope.check_root(block)
        except envelope.CannotOpen as error:
            raise MeshError.forbidden(
                "no record lies under this CID: name that of a record's content", "cid"
            ) from error
        return block
