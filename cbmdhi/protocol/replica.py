"""Replica receipts: a member's signed word that it holds a batch."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.protocol import signature
from cbmdhi.storage.v1.storage_pb2 import ReplicaReceipt


def sign_receipt(
    private_key: ec.EllipticCurvePrivateKey, root_cid: str, msp: str, held_at_ms: int
) -> ReplicaReceipt:
    """A receipt for the batch under `root_cid`, held since `held_at_ms` (Unix ms)."""
    receipt = ReplicaReceipt(root_cid=root_cid, msp=msp, held_at_ms=held_at_ms)
    receipt.signature = signature.sign(private_key, signature.REPLICA, _message(receipt))
    return receipt


def verify_receipt(receipt: ReplicaReceipt, spki_der: bytes) -> None:
    """Check a receipt against the member's registered storage signing key. Raises BadSignature."""
    key = signature.load_public_key(spki_der)
    signature.verify(key, receipt.signature, signature.REPLICA, _message(receipt))


def _message(receipt: ReplicaReceipt) -> bytes:
    return f"{receipt.root_cid}\x00{receipt.msp}\x00{receipt.held_at_ms}".encode()
