"""Replica receipts: signed for what this member has a lease for; those of other members are checked."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1.state_pb2 import ReplicaReceipt, SealedBatch
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import replica
from cbmdhi.protocol.signature import BadSignature
from cbmdhi.storage.v1.storage_pb2 import SealedContent
from services.runtime.errors import MeshError
from services.storage.domain.lease import Content, Lease


class Receipts:
    """Signs with the member's registered storage key, for one channel."""

    def __init__(self, own_msp: str, genesis_sha256: bytes, signing_key: ec.EllipticCurvePrivateKey) -> None:
        self._own_msp = own_msp
        self._genesis_sha256 = genesis_sha256
        self._signing_key = signing_key

    def sign(self, lease: Lease) -> ReplicaReceipt:
        """A receipt. It expires before the lease does."""
        return replica.sign_receipt(
            self._signing_key,
            self._genesis_sha256,
            root_sha256(lease),
            lease.sealed_sha256,
            self._own_msp,
            lease.held_at_ms,
        )

    def check(self, receipt: ReplicaReceipt, lease: Lease, msp: str, spki_der: bytes | None) -> None:
        """Check the receipt of another member for the same batch. Raises MeshError BAD_SIGNATURE.

        spki_der  its registered storage signing key; None: it has none
        """
        named = (receipt.msp, receipt.root_sha256, receipt.contents_sha256)
        try:
            if spki_der is None or named != (msp, root_sha256(lease), lease.sealed_sha256):
                raise BadSignature("the receipt is about something else")
            replica.verify_receipt(receipt, self._genesis_sha256, spki_der)
        except (BadSignature, ValueError) as exc:
            raise MeshError.bad_signature("the member's receipt is not signed by its storage key") from exc


def seal(lease: Lease, receipts: list[ReplicaReceipt]) -> SealedBatch:
    """The seal of a batch: what goes to the channel once for all its records."""
    return SealedBatch(root_sha256=root_sha256(lease), contents=lease.sealed, receipts=receipts)


def named(lease: Lease) -> list[SealedContent]:
    """The contents of a lease as messages, for other members and for the database."""
    return [
        SealedContent(
            cid=one.cid, command_id=one.command_id, signer=one.signer, stated_sha256=one.stated_sha256
        )
        for one in lease.contents
    ]


def contents_of(named: Iterable[SealedContent]) -> tuple[Content, ...]:
    """The inverse of `named`."""
    return tuple(Content(one.cid, one.command_id, one.signer, one.stated_sha256) for one in named)


def root_sha256(lease: Lease) -> bytes:
    """The digest of the root's CID."""
    return cids.digest(lease.root_cid)
