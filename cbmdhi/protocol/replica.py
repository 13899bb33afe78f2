"""Replica receipts: a member's signed word that it holds a sealed batch, and for which commands.

A content is sealed for one command. The chaincode puts it on the channel by that command alone, with receipts
of at most `RECEIPT_LIFETIME_MS`: so whoever holds it can tell by the channel when nothing will name it. It
stands there as its storage stated it: its carrier has no say in that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1.state_pb2 import ReplicaReceipt, WriterKey
from cbmdhi.protocol import signature

RECEIPT_LIFETIME_MS = 12 * 60 * 1000
"""For that long after it was signed the chaincode takes a receipt."""

_SEALED = "cbmdhi/sealed/v2"
_STATED = "cbmdhi/stated/v1"


def contents(sealed: Iterable[tuple[str, str, str, bytes]]) -> bytes:
    """`SealedBatch.contents`: 32 bytes for each (CID, command id, signer, `stated`)."""
    return b"".join(
        hashlib.sha256("\x00".join((_SEALED, cid, command_id, signer, "")).encode() + stated_sha256).digest()
        for cid, command_id, signer, stated_sha256 in sealed
    )


def stated(stored_bytes: int, key: WriterKey) -> bytes:
    """What a content's storage says of it, beside its CID: 32 bytes that tell others nothing."""
    parts = _STATED, str(stored_bytes), key.key_id, str(key.epoch), ""
    return hashlib.sha256("\x00".join(parts).encode() + key.sealed_key_sha256).digest()


def sign_receipt(
    private_key: ec.EllipticCurvePrivateKey,
    genesis_sha256: bytes,
    root_sha256: bytes,
    contents_sha256: bytes,
    msp: str,
    held_at_ms: int,
) -> ReplicaReceipt:
    """A receipt for the batch under that root, held since `held_at_ms` (Unix ms).

    genesis_sha256  of the channel for which it was sealed
    """
    receipt = ReplicaReceipt(
        root_sha256=root_sha256, contents_sha256=contents_sha256, msp=msp, held_at_ms=held_at_ms
    )
    receipt.signature = signature.sign(private_key, signature.REPLICA, _message(genesis_sha256, receipt))
    return receipt


def verify_receipt(receipt: ReplicaReceipt, genesis_sha256: bytes, spki_der: bytes) -> None:
    """Check a receipt against the member's registered storage signing key. Raises BadSignature."""
    key = signature.load_public_key(spki_der)
    signature.verify(key, receipt.signature, signature.REPLICA, _message(genesis_sha256, receipt))


def _message(genesis_sha256: bytes, receipt: ReplicaReceipt) -> bytes:
    return b"".join(
        (
            genesis_sha256,
            receipt.root_sha256,
            receipt.contents_sha256,
            f"{receipt.msp}\x00{receipt.held_at_ms}".encode(),
        )
    )
