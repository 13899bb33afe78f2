"""evidence.json: what members' peers sign about a record and its command, what a reader compares with it, and
receipts of those who hold it."""

from __future__ import annotations

import hashlib

from cbmdhi.command.v1.state_pb2 import ReplicaReceipt, StoredContent
from cbmdhi.protocol import replica, signature
from tests.support.fakes.fabric_blocks import CHAINCODE
from tests.vectors import forged, story
from tests.vectors.fixed import AT_MS, CHANNEL, Vectors, same, sign
from tests.vectors.story import STORAGE, STORED

_OTHER = hashlib.sha256(b"another").digest()


def vectors(_: Vectors) -> Vectors:
    """All vectors."""
    told = story.tell()
    return {
        "channel": CHANNEL.name,
        "genesis_sha256_hex": CHANNEL.genesis_sha256.hex(),
        "chaincode": CHAINCODE,
        "members": [
            {
                "msp_id": member.msp_id,
                "ca_pem": member.pem,
                "storage_signing_key": signature.spki(STORAGE[member.msp_id].public_key()).hex(),
            }
            for member in (told.network.mercy, told.network.lakeside)
        ],
        "record_id": story.RECORD_ID,
        "version": 1,
        "patient": told.record.patient,
        "command_id": story.COMMAND_ID,
        "signer": told.written.signer,
        "author": told.record.author,
        "record_hex": same(told.record).hex(),
        "audit_entry_hex": same(told.entry).hex(),
        "commands_hex": [same(told.written).hex()],
        "registrations_hex": [same(one).hex() for one in told.people],
        "cases": [case.vector for case in forged.cases(told)],
        "replicas": _replicas(story.COMMAND_ID, told.written.signer),
    }


def _replicas(command_id: str, signer: str) -> Vectors:
    stated = replica.stated(STORED.stored_bytes, STORED.writer_key)
    contents = replica.contents([(STORED.cid, command_id, signer, stated)])
    digest = hashlib.sha256(contents).digest()
    others = replica.contents([(STORED.cid, command_id, "another signer", stated)])
    lakeside_alone = StoredContent()
    lakeside_alone.CopyFrom(STORED)
    lakeside_alone.replicas[:] = ["LakesideMSP"]
    not_in_it = hashlib.sha256(others).digest()
    bad = [
        (
            "signed by another member's key",
            "replica-signature",
            _receipt(by="LakesideMSP", of=digest),
            STORED,
        ),
        ("signed for another genesis", "replica-signature", _receipt(genesis=_OTHER, of=digest), STORED),
        ("of another root", "replica-root", _receipt(root=_OTHER, of=digest), STORED),
        ("of a batch without the record", "replica-contents", _receipt(of=not_in_it), STORED),
        ("of a member that is not said to hold it", "replica-member", _receipt(of=digest), lakeside_alone),
    ]
    return {
        "stored_content_hex": same(STORED).hex(),
        "contents_hex": contents.hex(),
        "receipts_hex": [same(_receipt(msp, msp, of=digest)).hex() for msp in STORAGE],
        "bad": [
            {
                "name": name,
                "check": check,
                "stored_content_hex": same(stored).hex(),
                "receipt_hex": same(one).hex(),
            }
            for name, check, one, stored in bad
        ],
    }


def _receipt(
    msp: str = "MercyMSP",
    by: str = "MercyMSP",
    *,
    of: bytes,
    genesis: bytes = CHANNEL.genesis_sha256,
    root: bytes = STORED.root_sha256,
) -> ReplicaReceipt:
    receipt = ReplicaReceipt(root_sha256=root, contents_sha256=of, msp=msp, held_at_ms=AT_MS)
    message = genesis + root + of + f"{msp}\x00{receipt.held_at_ms}".encode()
    receipt.signature = sign(STORAGE[by], signature.REPLICA, message)
    return receipt
